package pgserver

// freeInMemory returns 0: macOS has no in-memory directory.
func freeInMemory(string) int64 { return 0 }
