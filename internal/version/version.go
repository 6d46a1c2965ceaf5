// Package version reports the module version that a command was built from.
package version

import (
	_ "embed"
	"runtime/debug"
	"strings"
)

// archived is the commit that git archive wrote into the file, as for the
// archives of a release, or git's placeholder in a checkout.
//
//go:embed commit.txt
var archived string

// String returns the version of the running command's module and its commit,
// and says whether the checkout was modified:
//
//	v0.1.0
//	v0.1.1-0.20261127165000-4b1402a6c7d8+dirty, commit 4b1402a…, modified
//	(devel), commit unknown
//
// "go install" of a version only knows the version. A build in a checkout or in
// a release's archive also knows the commit.
func String() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = new(debug.BuildInfo)
	}
	return of(info, archived)
}

func of(info *debug.BuildInfo, archived string) string {
	module := providing(info)
	version := module.Version
	if version == "" {
		version = "(devel)"
	}
	settings := make(map[string]string)
	if module == &info.Main {
		for _, s := range info.Settings {
			settings[s.Key] = s.Value
		}
	}
	archived = strings.TrimSpace(archived)
	switch commit := settings["vcs.revision"]; {
	case commit != "" && settings["vcs.modified"] == "true":
		return version + ", commit " + commit + ", modified"
	case commit != "":
		return version + ", commit " + commit
	case !strings.HasPrefix(archived, "$"):
		return version + ", commit " + archived
	case version == "(devel)":
		return version + ", commit unknown"
	}
	return version
}

// providing returns the module that provides the command. It isn't the main
// module if that one runs the command as a tool.
func providing(info *debug.BuildInfo) *debug.Module {
	has := func(module *debug.Module) bool { return strings.HasPrefix(info.Path+"/", module.Path+"/") }
	found := &info.Main
	for _, module := range info.Deps {
		if !has(module) || has(found) && len(module.Path) <= len(found.Path) {
			continue
		}
		found = module
		if module.Replace != nil {
			found = &debug.Module{Path: module.Path, Version: module.Replace.Version}
		}
	}
	return found
}
