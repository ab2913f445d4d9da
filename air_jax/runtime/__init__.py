"""Tools below the mathematics: devices and processes, start-up, command line, primitives, memory layout and files."""
