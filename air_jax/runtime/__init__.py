"""Machinery below the mathematics: devices, start-up, command line, primitives, memory order and files."""
