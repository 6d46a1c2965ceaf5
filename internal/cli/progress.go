package cli

import (
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// progressEvery is how often a line tells how far something is where no bar can
// be drawn.
const progressEvery = 5 * time.Second

// step is how far something is.
type step struct {
	task        string // a new one has a bar of its own
	done, total int64  // a total of -1 is not known
	bytes       bool   // done and total are bytes of a file, and otherwise rows
	line        string // the same in words, without a newline
}

// progress returns what shows people how far something is, a bar where it can
// be drawn and lines otherwise, and what ends it.
func (a *app) progress() (show func(step), done func()) {
	file, ok := a.note.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		last := time.Now()
		return func(s step) {
			if time.Since(last) >= progressEvery {
				last = time.Now()
				a.notef("%s\n", s.line)
			}
		}, func() {}
	}
	var (
		bar  *progressbar.ProgressBar
		task string
	)
	return func(s step) {
			if bar == nil || task != s.task {
				if bar != nil {
					_ = bar.Finish()
				}
				task = s.task
				bar = progressbar.NewOptions64(s.total, progressbar.OptionSetWriter(file), progressbar.OptionShowCount(),
					progressbar.OptionShowIts(), progressbar.OptionSetItsString("rows"), progressbar.OptionSetPredictTime(true),
					progressbar.OptionSetDescription(s.task), progressbar.OptionShowBytes(s.bytes),
					progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
			}
			_ = bar.Set64(s.done)
		}, func() {
			if bar != nil {
				_ = bar.Finish()
			}
		}
}
