package testdb

import "time"

// Pace is the pause of a goroutine that writes or reads beside what is tested,
// after each operation. Some hundred operations a second meet it as well as all
// that the processor can do, which the test would have to wait for.
func Pace() { time.Sleep(2 * time.Millisecond) }
