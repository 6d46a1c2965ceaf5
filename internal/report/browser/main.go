// Command browser takes the docs' picture of a report, and renders a demo's
// page and the dashboard's pictures in Chromium. Its tests check how a browser
// shows them. It is a separate module, so that Credent doesn't depend on
// Chromium's packages.
//
//	go run . -picture ../../../docs/report.png
//	go run . -all FOLDER      each width, in light and dark, and on paper
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/credent-go/credent/internal/pgserver"
)

// widths are typical for a phone, a tablet and a desktop, in CSS pixels.
var widths = []int64{360, 768, 1280}

func main() {
	log.SetFlags(0)
	log.SetPrefix("browser: ")
	picture := flag.String("picture", "", "write the picture of the documents to this `file`")
	all := flag.String("all", "", "write pictures of the page and the dashboard, and the page, to this `folder`")
	flag.Parse()
	if err := run(context.Background(), *picture, *all); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, picture, all string) (err error) {
	server, err := pgserver.Start(ctx, pgserver.Private())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	r, err := newReport(ctx, server)
	if err != nil {
		return err
	}
	folder, err := os.MkdirTemp("", "credent-report-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	b, err := newBrowser(ctx, filepath.Join(folder, "profile"))
	if err != nil {
		return err
	}
	defer b.close()
	file, err := b.open(folder, r)
	if err != nil {
		return err
	}
	if picture != "" {
		// As far as the first chart.
		shot, err := b.picture(1040, 1230, false)
		if err != nil {
			return err
		}
		if err := os.WriteFile(picture, shot, 0o644); err != nil { //nolint:gosec // a public picture
			return err
		}
	}
	if all == "" {
		return nil
	}
	return b.writeAll(all, folder, file)
}

// writeAll writes the files for a person to look at.
func (b *browser) writeAll(to, folder, file string) error {
	if err := os.MkdirAll(to, 0o755); err != nil { //nolint:gosec // public pictures
		return err
	}
	page, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	files := map[string][]byte{"report.html": page}
	if files["report.pdf"], err = b.pdf(); err != nil {
		return err
	}
	shoot := func(what string, width int64) error {
		for scheme, dark := range map[string]bool{"light": false, "dark": true} {
			name := fmt.Sprintf("%s-%d-%s.png", what, width, scheme)
			if files[name], err = b.picture(width, 0, dark); err != nil {
				return err
			}
		}
		return nil
	}
	for _, width := range widths {
		if err := shoot("report", width); err != nil {
			return err
		}
	}
	for _, width := range widths {
		if err := errors.Join(b.openDashboard(folder, width), shoot("dashboard", width)); err != nil {
			return err
		}
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(to, name), content, 0o644); err != nil { //nolint:gosec // as above
			return err
		}
	}
	return nil
}
