package hclspec

import (
	"strings"
	"testing"
	"testing/fstest"
)

// TestQuotedLinesShowNoKey: a secret key or a passphrase that was written where its public half or its file belongs is not printed with the line that is
// refused.
func TestQuotedLinesShowNoKey(t *testing.T) {
	const head = "repository \"r\" {\n  path = \"/r\"\n  encryption {\n"
	for name, x := range map[string]struct{ line, secret string }{
		"an identity":            {`data_recipients = ["AGE-SECRET-KEY-1QYQSZQGPQYQSZQGPQYQSZQGPQ"]`, "QYQSZQGPQ"},
		"one that is hard":       {`data_recipients = ["AGE-SECRET-KEY-PQ-1QYQSZQGPQYQSZQGPQYQSZQGPQ"]`, "QYQSZQGPQ"},
		"in small letters":       {`meta_recipients = ["age1x", "age-secret-key-1qyqszqgpq"]`, "qyqszqgpq"},
		"a writer key":           {`trusted_writers = ["PGKEEP-WRITER-KEY-1-c2VjcmV0_Y-c2VjcmV0"]`, "c2VjcmV0"},
		"a passphrase":           {`passphrase      = "correct horse"`, "horse"},
		"a password, aligned":    {`password    =    "correct horse"`, "horse"},
		"a key where a path is":  {`signing_key = "PGKEEP-WRITER-KEY-1-c2VjcmV0"`, "c2VjcmV0"},
		"an identity for a path": {`identity_files = ["AGE-SECRET-KEY-1QYQSZQGPQ"]`, "QYQSZQGPQ"},
	} {
		s, diags := Load(fstest.MapFS{"a.hcl": {Data: []byte(head + "    " + x.line + "\n  }\n}\n")}}, ".", LoadOptions{})
		if !diags.HasErrors() {
			t.Errorf("%s is not refused", name)
		}
		if got := drawn(t, s, diags); strings.Contains(got, x.secret) || !strings.Contains(got, "***") {
			t.Errorf("%s is printed:\n%s", name, got)
		}
	}
}
