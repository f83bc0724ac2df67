"""Looking at functions: a page that zooms into them by itself. Its pixels are render/'s."""
