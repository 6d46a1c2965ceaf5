package expiring

// Remembered returns for how many credentials a watcher knows when it told.
func (w *Watcher) Remembered() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.told) + len(w.earlier)
}
