"""oneDNN, which pip installs and Jittor would download."""

from __future__ import annotations

import os
import site
import sys
from pathlib import Path

from utils.runtime.cache import cache_folder


def find_onednn() -> Path | None:
    """The prefix into which pip unpacked the oneDNN wheels; None if they are not installed."""
    for prefix in map(Path, (sys.prefix, site.getuserbase(), sys.base_prefix)):
        if (prefix / "lib" / "libdnnl.so.2").exists() and (prefix / "include" / "dnnl.hpp").exists():
            return prefix
    return None


def onednn_home() -> Path:
    """The folder with oneDNN's include/ and lib/, where Jittor would download it to."""
    return cache_folder() / ".cache" / "jittor" / "mkl" / "dnnl_lnx_2.2.0_cpu_gomp"


def link_onednn() -> None:
    """Links the installed oneDNN into `onednn_home`; anew each time, since an environment can move."""
    prefix, home = find_onednn(), onednn_home()
    (home / "lib").mkdir(parents=True, exist_ok=True)
    library = prefix / "lib" / "libdnnl.so.2"
    links = {"include": prefix / "include", "lib/libmkldnn.so": library, "lib/libdnnl.so.2": library}
    for name, target in links.items():
        link = home / name
        if not (link.is_symlink() and Path(os.readlink(link)) == target):
            temporary = link.with_name(f".{link.name}.{os.getpid()}")
            temporary.symlink_to(target)
            temporary.replace(link)
