package main

import (
	"strings"
	"testing"
)

// TestKeysAreRedacted: keys of every kind go out of what is sent to somebody who helps.
func TestKeysAreRedacted(t *testing.T) {
	for _, key := range []string{"AGE-SECRET-KEY-1QYQSZQGPQ", "AGE-SECRET-KEY-PQ-1QYQSZQGPQ", "age-secret-key-1qyqszqgpq", "PGKEEP-WRITER-KEY-1-c2Vj_cmV-0QYQSZQGPQ"} {
		got := newRedactor(nil).text("read " + key + " from a file")
		if strings.Contains(strings.ToUpper(got), "QYQSZQGPQ") || !strings.HasSuffix(got, " from a file") {
			t.Errorf("%q became %q", key, got)
		}
	}
}
