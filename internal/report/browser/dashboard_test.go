package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// drawing returns the faults of a drawing with the classes page, panel and
// line: elements that don't fit, overlap others, are too small to read, or have
// too little contrast.
const drawing = `(() => {` + ratio + `
  const bad = [], box = (e) => e.getBoundingClientRect();
  const inside = (a, b) => a.left >= b.left && a.right <= b.right && a.top >= b.top && a.bottom <= b.bottom;
  const meet = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
  const page = document.querySelector('.page'), panels = [...document.querySelectorAll('.panel')];
  const color = (e, of) => rgb(getComputedStyle(e)[of]);
  const root = document.documentElement;
  if (root.scrollWidth > innerWidth || box(page).width !== innerWidth) bad.push(root.scrollWidth + ' pixels wide');
  if (panels.length < 15) bad.push(panels.length + ' panels');
  panels.forEach((p, i) => {
    const title = p.nextElementSibling.textContent;
    if (!inside(box(p), box(page))) bad.push('outside: ' + title);
    if (panels.slice(i + 1).some((other) => meet(box(p), box(other)))) bad.push('below another panel: ' + title);
  });
  const behind = (e) => e.closest('g:has(> .panel)')?.querySelector('.panel') ?? page;
  const texts = [...document.querySelectorAll('text')];
  texts.forEach((e, i) => {
    const back = behind(e);
    if (!inside(box(e), box(back))) bad.push('cut off: ' + e.textContent);
    if (texts.slice(i + 1).some((other) => meet(box(e), box(other)))) bad.push('below another text: ' + e.textContent);
    if (parseFloat(getComputedStyle(e).fontSize) < 12) bad.push('small: ' + e.textContent);
    if (ratio(color(e, 'fill'), color(back, 'fill')) < 4.5) bad.push('too little contrast: ' + e.textContent);
  });
  for (const e of document.querySelectorAll('.line')) {
    if (!inside(box(e), box(behind(e)))) bad.push('outside: ' + e.getAttribute('class'));
    const r = ratio(color(e, 'stroke'), color(behind(e), 'fill'));
    if (r < 3) bad.push('too little contrast: ' + e.getAttribute('class'));
  }
  return bad;
})()`

// TestDashboard checks the dashboard's pictures in Chromium, in light and dark,
// and checks which one docs/metrics.md shows at each screen width.
func TestDashboard(t *testing.T) {
	folder := t.TempDir()
	b, err := newBrowser(t.Context(), filepath.Join(folder, "profile"))
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	for _, width := range widths {
		if err := b.openDashboard(folder, width); err != nil {
			t.Fatal(err)
		}
		for _, dark := range []bool{false, true} {
			if err := b.show(width, 900, dark); err != nil {
				t.Fatal(err)
			}
			bad, err := evaluate[[]string](b, drawing)
			if err != nil {
				t.Fatal(err)
			}
			if len(bad) > 0 {
				t.Errorf("%d, dark %v:\n%s", width, dark, strings.Join(bad, "\n"))
			}
		}
	}

	docs, err := filepath.Abs("../../../docs")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(docs, "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	pictures := regexp.MustCompile(`(?s)<picture>.*</picture>`).FindString(string(text))
	for i, want := range []int64{360, 768, 768} {
		if err := b.show(widths[i], 900, false); err != nil {
			t.Fatal(err)
		}
		if err := b.openPage(folder, "<base href=\"file://"+docs+"/\">"+pictures); err != nil {
			t.Fatal(err)
		}
		got, err := evaluate[string](b, `(() => {
  const i = document.querySelector('img'), e = document.documentElement;
  return [i.currentSrc.split('/').pop(), i.naturalWidth, i.width, e.scrollWidth - e.clientWidth, i.alt !== ''].join();
})()`)
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("credent-%d.svg,%[1]d,%[1]d,0,true", want); got != want {
			t.Errorf("%d: docs/metrics.md shows %s, want %s", widths[i], got, want)
		}
	}
	checkHeard(t, b)
}
