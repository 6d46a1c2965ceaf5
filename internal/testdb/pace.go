package testdb

import "time"

// Pace is the pause of a goroutine that writes or reads concurrently with the
// tested code, after each operation. A few hundred operations a second test as
// much as the processor's maximum, which would slow the test down.
func Pace() { time.Sleep(2 * time.Millisecond) }
