package hclspec

import (
	"strings"
	"testing"
)

// TestNewRecoveryRefuses tries what only a command line can get wrong.
func TestNewRecoveryRefuses(t *testing.T) {
	for want, r := range map[string]RecoveryText{
		"No directory to restore into is given.": {Latest: true},
		"is not a port.":                         {Latest: true, Path: "/x", Port: 70000},
		"The text is not UTF-8.":                 {Name: "\xff", Path: "/x"},
	} {
		if _, err := NewRecovery(r, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}
