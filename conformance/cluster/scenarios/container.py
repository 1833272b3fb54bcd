"""Runs a program as a container runtime would: `container.py ROOTFS UID GID writable|readonly PROGRAM [ARGUMENT...]`.

In the root file system of an image, as a user, with NET_BIND_SERVICE permitted and nothing else, and without a way to more
(no_new_privs, which `allowPrivilegeEscalation: false` is). Its environment is in CONTAINER_ENVIRONMENT, as JSON. Processes and network are those of the lab.
"""

import ctypes
import json
import os
import struct
import subprocess
import sys

NET_BIND_SERVICE = 10
CLONE_NEWNS = 0x00020000
PR_SET_KEEPCAPS, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 8, 24, 38
CAPABILITY_VERSION_3 = 0x20080522

libc = ctypes.CDLL(None, use_errno=True)


def checked(result):
    if result:
        raise OSError(ctypes.get_errno(), "a container cannot be made here")


def main():
    root, user, group, kind, *command = sys.argv[1:]
    checked(libc.unshare(CLONE_NEWNS))
    mount = lambda *args: subprocess.run(["mount", *args], check=True)
    mount("--make-rprivate", "/")
    mount("--rbind", root, root)
    for name in ("proc", "dev"):
        mount("--rbind", f"/{name}", f"{root}/{name}")
    if kind == "readonly":
        mount("-o", "remount,bind,ro", root)
    os.chroot(root)
    os.chdir("/")
    for capability in range(64):
        if capability != NET_BIND_SERVICE:
            libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    checked(libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0))
    os.setgroups([])
    os.setgid(int(group))
    os.setuid(int(user))
    bit = 1 << NET_BIND_SERVICE
    # Permitted and effective, not inheritable, as runtimes have it since CVE-2022-24769.
    header, sets = struct.pack("<II", CAPABILITY_VERSION_3, 0), struct.pack("<IIIIII", bit, bit, 0, 0, 0, 0)
    checked(libc.capset(header, sets))
    checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    os.execve(command[0], command, json.loads(os.environ["CONTAINER_ENVIRONMENT"]))


main()
