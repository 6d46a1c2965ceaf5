package expiring

// Remembered returns the number of reported credentials that a watcher
// remembers.
func (w *Watcher) Remembered() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.told) + len(w.earlier)
}
