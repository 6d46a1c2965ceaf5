package pgserver

// freeInMemory finds none: macOS has no directory in memory.
func freeInMemory(string) int64 { return 0 }
