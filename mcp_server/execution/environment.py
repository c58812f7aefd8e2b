"""Which environment variables a trial gets: a few that programs need, and those that the configuration names."""

from collections.abc import Iterable, Mapping

from mcp_server.processes import OWNER

NEEDED = frozenset(
    {
        *("HOME", "LANG", "LANGUAGE", "LC_*", "LOGNAME", "PATH", "SHELL", "TEMP", "TMP", "TMPDIR", "TZ", "USER"),
        *("PYTHONHASHSEED", "PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONUTF8", OWNER),
        # Where libraries of a driver or an environment lie, and which devices there are.
        *("CONDA_PREFIX", "CUDA_*", "DYLD_LIBRARY_PATH", "LD_LIBRARY_PATH", "NVIDIA_*", "VIRTUAL_ENV"),
        # Windows starts nothing without some of these.
        *("APPDATA", "COMSPEC", "LOCALAPPDATA", "PATHEXT", "SYSTEMDRIVE", "SYSTEMROOT", "USERPROFILE", "WINDIR"),
    }
)
"""Names, or how names begin; none of them is where programs keep secrets."""


def allowed_environment(environment: Mapping[str, str], also: Iterable[str] = ()) -> dict[str, str]:
    """What a trial gets of `environment`: the names in `NEEDED` and in `also`, where `LC_*` means a beginning.

    >>> allowed_environment({"PATH": "/bin", "LC_ALL": "C", "AWS_SECRET_ACCESS_KEY": "x", "HF_HOME": "/hf"}, ["HF_*"])
    {'PATH': '/bin', 'LC_ALL': 'C', 'HF_HOME': '/hf'}
    """
    names = NEEDED.union(also)
    beginnings = tuple(name.removesuffix("*") for name in names if name.endswith("*"))
    return {name: value for name, value in environment.items() if name in names or name.startswith(beginnings)}
