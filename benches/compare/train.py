#!/usr/bin/env python3
"""Tables for a profile-guided build (`pgo`): starts Narthex over hosts, changes one, makes all anew. Measures nothing.

compare.py loads a single host; what reads and compiles objects would else be taken for code that never runs.
"""

import argparse

import growth
import machine
import peers
from scene import Scene

HOSTS = 2000


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", required=True, help="the narthex binary to load")
    options = parser.parse_args()
    machine.end_cleanly()
    options.short = True
    # The profile is written when the process ends.
    peers.PATIENCE = 60
    machine.step_aside()
    with Scene(options) as scene:
        growth.filled(scene, scene.narthex(), HOSTS)


if __name__ == "__main__":
    main()
