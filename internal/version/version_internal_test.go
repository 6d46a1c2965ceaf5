package version

import (
	"runtime/debug"
	"testing"
)

func TestOf(t *testing.T) {
	t.Parallel()
	const (
		root   = "github.com/credent-go/credent"
		commit = "4b1402a6c7d84b1402a6c7d84b1402a6c7d84b14"
		none   = "$Format:%H$\n"
	)
	main := func(module, version string, deps ...*debug.Module) debug.BuildInfo {
		of := debug.Module{Path: module, Version: version}
		return debug.BuildInfo{Path: root + "/cmd/credent", Main: of, Deps: deps}
	}
	built := func(version, modified string) debug.BuildInfo {
		info := main(root, version)
		info.Settings = []debug.BuildSetting{
			{Key: "vcs.revision", Value: commit}, {Key: "vcs.modified", Value: modified},
		}
		return info
	}
	nested := main(root+"/kms", "v0.2.0", &debug.Module{Path: root, Version: "v0.1.0"})
	nested.Path = root + "/kms/cmd/credent-kms"
	tool := main("example.com/app", "v9.9.9", &debug.Module{Path: root, Version: "v0.1.0"})
	tool.Settings = built("", "true").Settings
	replaced := &debug.Module{Path: root, Version: "v0.1.0", Replace: &debug.Module{Path: "../credent"}}
	for name, test := range map[string]struct {
		info     debug.BuildInfo
		archived string
		want     string
	}{
		"installed":           {main(root, "v0.1.0"), none, "v0.1.0"},
		"a checkout":          {built("(devel)", "false"), none, "(devel), commit " + commit},
		"a modified checkout": {built("v0.1.1+dirty", "true"), none, "v0.1.1+dirty, commit " + commit + ", modified"},
		"an archive":          {main(root, "(devel)"), commit + "\n", "(devel), commit " + commit},
		"neither":             {main(root, "(devel)"), none, "(devel), commit unknown"},
		"nothing":             {debug.BuildInfo{}, none, "(devel), commit unknown"},
		"the nested module":   {nested, none, "v0.2.0"},
		"a tool of a module":  {tool, none, "v0.1.0"},
		"a replaced tool":     {main("example.com/app", "v9.9.9", replaced), none, "(devel), commit unknown"},
	} {
		if got := of(&test.info, test.archived); got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}
