package basebackup

import (
	"strings"
	"testing"

	"github.com/pgkeep/pgkeep/state/repository"
)

// TestDoubts: nothing is laid over a parent whose pages may not be what the server had.
func TestDoubts(t *testing.T) {
	for _, c := range []struct {
		parent    repository.ParentFacts
		checksums string
		says      string
	}{
		{repository.ParentFacts{Checksums: "on"}, "on", ""},
		{repository.ParentFacts{Checksums: "on"}, "off", ""},
		{repository.ParentFacts{Checksums: "off"}, "off", ""},
		{repository.ParentFacts{}, "off", ""},
		{repository.ParentFacts{Checksums: "off"}, "on", "checksums"},
		{repository.ParentFacts{Checksums: "inprogress-on"}, "on", "checksums"},
		{repository.ParentFacts{Checksums: "off"}, "inprogress-on", "checksums"},
		{repository.ParentFacts{}, "on", "checksums"},
		{repository.ParentFacts{Checksums: "on", Suspects: true}, "on", "may be damaged"},
	} {
		if why := doubts(c.parent, c.checksums); (why == "") != (c.says == "") || !strings.Contains(why, c.says) {
			t.Errorf("%+v, now %s: %q", c.parent, c.checksums, why)
		}
	}
}
