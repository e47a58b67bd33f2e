package postgres

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/pgkeep/pgkeep/state"
)

// TestCapturedIsBounded: the shortest entries that there may be are read, and a list of what has no name is not.
func TestCapturedIsBounded(t *testing.T) {
	var c Captured
	for range 1000 {
		c.Settings, c.HBA, c.Tablespaces = append(c.Settings, CapturedSetting{}), append(c.HBA, ""), append(c.Tablespaces, state.Tablespace{})
	}
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var again Captured
	if err := json.Unmarshal(b, &again); err != nil || len(again.Settings)+len(again.HBA)+len(again.Tablespaces) != 3000 {
		t.Errorf("%d settings, %d lines and %d tablespaces: %v", len(again.Settings), len(again.HBA), len(again.Tablespaces), err)
	}
	for _, list := range []string{"settings", "tablespaces"} {
		if err := json.Unmarshal([]byte(`{"`+list+`":[`+strings.Repeat(`{},`, 1000)+`{}]}`), &again); err == nil {
			t.Errorf("a thousand %s of nothing are read", list)
		}
	}
}
