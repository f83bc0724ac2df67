"""The reader under the eyes of Python's audit."""

import encodings.cp437  # noqa: F401  zipfile would import it while it is watched
import sys

from inr_gan_jax.foreign import unpickle

# What Python itself reports when something is called, imported, compiled or executed.
WATCHED = {
    *("compile", "ctypes.dlopen", "exec", "import", "os.exec", "os.fork", "os.kill"),
    *("os.posix_spawn", "os.remove", "os.rmdir", "os.system", "pickle.find_class"),
    *("shutil.rmtree", "socket.connect", "subprocess.Popen"),
}
watching, seen = False, []


def _audit(event, args):
    if watching and event in WATCHED:
        seen.append((event, args))


sys.addaudithook(_audit)


def read(path):
    """The reader, under the eyes of Python's audit: nothing is called, imported or executed."""
    global watching
    watching = True
    seen.clear()
    try:
        return unpickle.read(path)
    finally:
        watching = False
        assert not seen, seen
