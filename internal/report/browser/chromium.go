package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/credent-go/credent/internal/report"
	reportpage "github.com/credent-go/credent/internal/report/page"
)

// browser is a headless Chromium with one page.
type browser struct {
	ctx   context.Context //nolint:containedctx // chromedp keeps the browser in it
	close func()

	mu       sync.Mutex
	said     []string // console and log messages
	requests []string // requested addresses
}

// newBrowser starts Chromium with an empty profile.
func newBrowser(ctx context.Context, profile string) (*browser, error) {
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.UserDataDir(profile), chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true))
	b := new(browser)
	ctx, stop := chromedp.NewExecAllocator(ctx, options...)
	ctx, cancel := chromedp.NewContext(ctx, chromedp.WithListener(b.listen))
	b.ctx, b.close = ctx, func() { cancel(); stop() }
	err := errors.Join(call(b, log.Enable, cdp.Empty{}), call(b, network.Enable, network.EnableParams{}),
		call(b, runtime.Enable, cdp.Empty{}), call(b, accessibility.Enable, cdp.Empty{}))
	if err != nil {
		b.close()
		return nil, fmt.Errorf("start Chromium (scripts/need chromium installs it): %w", err)
	}
	return b, nil
}

// call sends a command and discards its answer.
func call[P, R any](b *browser, command cdp.Command[P, R], params P) error {
	_, err := chromedp.Call(b.ctx, command, params)
	return err
}

func (b *browser) listen(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *log.EventEntryAdded:
		b.said = append(b.said, e.Entry.Text)
	case *runtime.EventConsoleAPICalled:
		b.said = append(b.said, "console."+string(e.Type))
	case *runtime.EventExceptionThrown:
		b.said = append(b.said, e.ExceptionDetails.Text)
	case *network.EventRequestWillBeSent:
		b.requests = append(b.requests, e.Request.URL)
	}
}

// heard returns the page's messages and requests so far.
func (b *browser) heard() (said, requests []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.said, b.requests
}

// open writes a report's page to a directory and opens it.
func (b *browser) open(folder string, r *report.Report) (file string, err error) {
	file = filepath.Join(folder, "report.html")
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return "", err
	}
	if err := errors.Join(reportpage.Write(f, r), f.Close()); err != nil {
		return "", err
	}
	return file, b.navigate(file)
}

// openDashboard opens the dashboard's picture for a width, on a page in a
// directory.
func (b *browser) openDashboard(folder string, width int64) error {
	svg, err := os.ReadFile(fmt.Sprintf("../../../otelcredent/dashboard/credent-%d.svg", width))
	if err != nil {
		return err
	}
	return b.openPage(folder, string(svg))
}

// openPage writes a page with pictures to a directory and opens it.
func (b *browser) openPage(folder, body string) error {
	file := filepath.Join(folder, "pictures.html")
	page := `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Pictures</title>
<style>body { margin: 0 } svg, img { display: block; max-width: 100% }</style>` + body
	if err := os.WriteFile(file, []byte(page), 0o600); err != nil {
		return err
	}
	return b.navigate(file)
}

// navigate opens a file.
func (b *browser) navigate(file string) error {
	return chromedp.Do(b.ctx, chromedp.Navigate((&url.URL{Scheme: "file", Path: file}).String()))
}

// show sets the window's size and the color scheme.
func (b *browser) show(width, height int64, dark bool) error {
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	return errors.Join(
		call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
			Width: width, Height: height, DeviceScaleFactor: 1, Mobile: width < 700,
		}),
		call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		}))
}

// picture returns the page as a PNG, cut to a height, or whole for 0.
func (b *browser) picture(width, height int64, dark bool) ([]byte, error) {
	if err := b.show(width, max(height, 800), dark); err != nil {
		return nil, err
	}
	whole := height == 0
	params := page.CaptureScreenshotParams{CaptureBeyondViewport: &whole}
	if whole {
		size, err := chromedp.Call(b.ctx, page.GetLayoutMetrics, cdp.Empty{})
		if err != nil {
			return nil, err
		}
		params.Clip = &page.Viewport{Width: size.CSSContentSize.Width, Height: size.CSSContentSize.Height, Scale: 1}
	}
	shot, err := chromedp.Call(b.ctx, page.CaptureScreenshot, params)
	return shot.Data, err
}

// pdf returns the page as printed on A4.
func (b *browser) pdf() ([]byte, error) {
	css := true
	pdf, err := chromedp.Call(b.ctx, page.PrintToPDF, page.PrintToPDFParams{
		PreferCSSPageSize: &css, PaperWidth: 8.27, PaperHeight: 11.69,
	})
	return pdf.Data, err
}

// tree returns the accessibility tree: the names of its elements by role.
func (b *browser) tree() (names map[string][]string, err error) {
	tree, err := chromedp.Call(b.ctx, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
	names = make(map[string][]string)
	for _, n := range tree.Nodes {
		if !n.Ignored {
			names[text(n.Role)] = append(names[text(n.Role)], text(n.Name))
		}
	}
	return names, err
}

// text returns the value if it is a string, and "" otherwise.
func text(v *accessibility.Value) (s string) {
	if v != nil {
		_ = json.Unmarshal(v.Value, &s) // s stays ""
	}
	return s
}

// evaluate returns the result of a JavaScript expression.
func evaluate[T any](b *browser, expression string) (T, error) {
	return chromedp.Run(b.ctx, chromedp.Evaluate[T](expression))
}
