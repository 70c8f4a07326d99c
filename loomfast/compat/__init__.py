"""Other packages' names and signatures on loomfast's operations: change an import, keep the program."""
