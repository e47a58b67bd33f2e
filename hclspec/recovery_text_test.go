package hclspec

import (
	"strings"
	"testing"
	"time"
)

// TestNewRecoveryRefuses tries what only a command line can get wrong.
func TestNewRecoveryRefuses(t *testing.T) {
	for want, r := range map[string]RecoveryText{
		"No directory to restore into is given.": {Latest: true},
		"is not a port.":                         {Latest: true, Path: "/x", Port: 70000},
		"The text is not UTF-8.":                 {Name: "\xff", Path: "/x"},
		"which pgkeep would take for another":    {Latest: true, Path: "/e\u0301"},
		"has letters and their marks apart":      {Latest: true, Path: "/x", Databases: []string{"e\u0301"}},
		"not UTF-8.":                             {Latest: true, Path: "/x", Tablespaces: map[string]string{"a": "/\xff"}},
	} {
		if _, err := NewRecovery(r, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

// TestATargetHasPostgreSQLsPrecision: what is finer than a microsecond would be cut off when it is given to PostgreSQL, which
// would then leave a transaction out that the preview has in.
func TestATargetHasPostgreSQLsPrecision(t *testing.T) {
	for _, c := range []struct {
		text      string
		exclusive bool
		want      int // nanoseconds
	}{
		{"2026-02-10T12:00:00.1234567Z", false, 123456000},
		{"2026-02-10T12:00:00.1234567Z", true, 123457000},
		{"2026-02-10T12:00:00.123456Z", true, 123456000},
		{"2026-02-10T12:00:00.123456Z", false, 123456000},
	} {
		r, err := NewRecovery(RecoveryText{Server: "orders", Time: c.text, Exclusive: c.exclusive, Path: "/x"}, nil)
		if want := time.Date(2026, 2, 10, 12, 0, 0, c.want, time.UTC); err != nil || !r.Target.Time.Equal(want) {
			t.Errorf("%s, exclusive %t: %v, %v", c.text, c.exclusive, r.Target.Time, err)
		}
	}
}
