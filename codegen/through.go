package codegen

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"entgo.io/ent/entc/gen"
)

// throughEdge is how ent v0.14.5 gets the defaults of an edge schema to store
// them when it joins rows. It forgets that createSpec returns an error, too, if
// a field has a ValueScanner, as encrypted fields do. No secret is set there,
// so there is no error.
const (
	throughEdge = "_, specE := createE.createSpec()"
	withError   = "_, specE, _ := createE.createSpec()"
)

// completeThrough corrects the calls that add edges through an edge schema with
// encrypted fields.
func completeThrough(g *gen.Graph, fields []encryptedField) error {
	creates := make(map[string]bool) // names of the edge schemas' builders
	for _, f := range fields {
		creates[f.Node.CreateName()] = true
	}
	for _, node := range g.Nodes {
		for _, suffix := range []string{"_create.go", "_update.go"} {
			path := filepath.Join(g.Target, strings.ToLower(node.Name)+suffix)
			source, err := os.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			completed := throughOf(source, creates)
			if bytes.Equal(completed, source) {
				continue
			}
			if err := os.WriteFile(path, completed, 0o644); err != nil { //nolint:gosec // source, readable like the rest
				return err
			}
		}
	}
	return nil
}

// throughOf returns the source of a builder with the calls of the named
// builders corrected.
func throughOf(source []byte, creates map[string]bool) []byte {
	const begin = "createE := &"
	parts := bytes.Split(source, []byte(begin))
	for i, part := range parts[1:] {
		name, _, _ := bytes.Cut(part, []byte("{"))
		if creates[string(name)] {
			parts[i+1] = bytes.Replace(part, []byte(throughEdge), []byte(withError), 1)
		}
	}
	return bytes.Join(parts, []byte(begin))
}
