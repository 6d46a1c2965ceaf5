package rotate

import "testing"

// TestPace halves the number of rows after each slow page, and grows it back
// slowly.
func TestPace(t *testing.T) {
	t.Parallel()
	p := &pace{most: 1000}
	for _, want := range []int{500, 250, 125, 62, 31, 15, 7, 3, 1} {
		if !p.slower(p.rows()) || p.rows() != want {
			t.Fatalf("got %d, want %d", p.rows(), want)
		}
	}
	if p.slower(1) || p.rows() != 1 {
		t.Errorf("one row was halved to %d", p.rows())
	}
	if p.slower(8); p.rows() != 1 {
		t.Errorf("a page that began larger made it grow to %d", p.rows())
	}
	pages := 0
	for last := 1; p.rows() < 1000; pages++ {
		p.passed(p.rows())
		if now := p.rows(); now > last+max(1, last/4) || now < last {
			t.Fatalf("from %d to %d", last, now)
		}
		last = p.rows()
	}
	if pages < 100 || pages > 400 {
		t.Errorf("it was back after %d pages", pages)
	}
	if p.passed(1_000_000); p.rows() != 1000 {
		t.Errorf("it grew to %d", p.rows())
	}
}
