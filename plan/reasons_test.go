package plan_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pgkeep/pgkeep/plan"
)

// reasonCode finds the codes of reasons in this package's source: literals, and the constants that stand for one.
var reasonCode = regexp.MustCompile(`(?:because\(|Reason\{Code: |notYet +=|stillRunning +=|unfit\{code: |unfit\{\s+code: |\bfull\() *"([a-z-]+)"`)

// untold are the reasons that no configuration and observation bring about, each with why.
func untold() map[string]string {
	return map[string]string{
		"no-conninfo": "the language refuses a removed block that drops a slot and has no conninfo",
	}
}

// TestEveryReasonHasAStory: for each reason of a step, and each reason why something is not planned, a story shows how it
// reads.
func TestEveryReasonHasAStory(t *testing.T) {
	told := map[string]bool{}
	for _, path := range stories(t) {
		s := readStory(t, path)
		p, _ := plan.Build(s.spec, s.seen, s.now, s.opt)
		for _, step := range p.Steps {
			for _, r := range step.Because {
				told[r.Code] = true
			}
		}
		for _, n := range p.NotDone {
			told[n.Why.Code] = true
		}
	}
	sources, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, name := range sources {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range reasonCode.FindAllStringSubmatch(string(source), -1) {
			found++
			if _, excused := untold()[m[1]]; told[m[1]] == excused {
				t.Errorf("%s: the reason %s is in a story: %t, and excused: %t", name, m[1], told[m[1]], excused)
			}
		}
	}
	if found < 50 {
		t.Errorf("only %d reasons were found in the source", found)
	}
}
