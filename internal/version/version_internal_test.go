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
	vcs := func(modified string) []debug.BuildSetting {
		return []debug.BuildSetting{{Key: "vcs.revision", Value: commit}, {Key: "vcs.modified", Value: modified}}
	}
	for name, test := range map[string]struct {
		info     debug.BuildInfo
		archived string
		want     string
	}{
		"installed":  {debug.BuildInfo{Path: root + "/cmd/credent", Main: debug.Module{Path: root, Version: "v0.1.0"}}, none, "v0.1.0"},
		"a checkout": {debug.BuildInfo{Path: root + "/cmd/credent", Main: debug.Module{Path: root, Version: "(devel)"}, Settings: vcs("false")}, none, "(devel), commit " + commit},
		"a modified checkout": {
			debug.BuildInfo{Path: root + "/cmd/credent", Main: debug.Module{Path: root, Version: "v0.1.1-0.x+dirty"}, Settings: vcs("true")},
			none, "v0.1.1-0.x+dirty, commit " + commit + ", modified",
		},
		"an archive":         {debug.BuildInfo{Path: root + "/cmd/credent", Main: debug.Module{Path: root, Version: "(devel)"}}, commit + "\n", "(devel), commit " + commit},
		"neither":            {debug.BuildInfo{Path: root + "/cmd/credent", Main: debug.Module{Path: root, Version: "(devel)"}}, none, "(devel), commit unknown"},
		"nothing":            {debug.BuildInfo{}, none, "(devel), commit unknown"},
		"the nested module":  {debug.BuildInfo{Path: root + "/kms/cmd/credent-kms", Main: debug.Module{Path: root + "/kms", Version: "v0.2.0"}, Deps: []*debug.Module{{Path: root, Version: "v0.1.0"}}}, none, "v0.2.0"},
		"a tool of a module": {debug.BuildInfo{Path: root + "/cmd/credent", Main: debug.Module{Path: "example.com/app", Version: "v9.9.9"}, Deps: []*debug.Module{{Path: root, Version: "v0.1.0"}}, Settings: vcs("true")}, none, "v0.1.0"},
		"a replaced tool":    {debug.BuildInfo{Path: root + "/cmd/credent", Main: debug.Module{Path: "example.com/app", Version: "v9.9.9"}, Deps: []*debug.Module{{Path: root, Version: "v0.1.0", Replace: &debug.Module{Path: "../credent"}}}}, none, "(devel), commit unknown"},
	} {
		if got := of(&test.info, test.archived); got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}
