package recovery

import (
	"errors"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

func TestSettingsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := string(rapid.SliceOf(rapid.ByteRange(1, 255)).Draw(t, "value"))
		line := "name = " + quoteSetting(value)
		if strings.ContainsAny(line, "\n\r") {
			t.Fatalf("%q ends its line", line)
		}
		if s, ok := parseSetting(line); !ok || s.name != "name" || s.value != value {
			t.Fatalf("%q is read as %q", line, s.value)
		}
	})
}

func TestParseSetting(t *testing.T) {
	for line, want := range map[string]setting{
		"port = 5432 # here":           {"port", "5432"},
		"  Port 5433":                  {"port", "5433"},
		"search_path='a''b\\'c\\101' ": {"search_path", "a'b'cA"},
		"include_dir 'conf.d'":         {"include_dir", "conf.d"},
		"a.b=on":                       {"a.b", "on"},
	} {
		got, ok := parseSetting(line)
		if !ok || got != want {
			t.Errorf("%q is read as %+v", line, got)
		}
	}
	for _, line := range []string{"", "# port = 1", "   ", "= 4"} {
		if s, ok := parseSetting(line); ok {
			t.Errorf("%q is read as %+v", line, s)
		}
	}
}

// hostile are names that would do harm if they were not quoted.
func hostile(canary string) []string {
	return []string{
		"a'; touch " + canary + " #", "a$(touch " + canary + ")", "a`touch " + canary + "`", "a\ntouch " + canary, "-rf", "%p", "%f%%",
		`a\'; touch ` + canary, "a b", "\u202eevil", "a\"; touch " + canary + "; \"", "a' 'b", "a;exit 0", "a&&exit 0", "a|true",
	}
}

// TestNoNameEscapesTheShell runs the generated command as PostgreSQL does.
func TestNoNameEscapesTheShell(t *testing.T) {
	dir := t.TempDir()
	canary := filepath.Join(dir, "canary")
	for _, exit := range []string{"0", "10", "255", "1", "2", "126"} {
		for _, word := range hostile(canary) {
			program, got := filepath.Join(dir, "program"), filepath.Join(dir, "RECOVERYXLOG")
			check(t, os.WriteFile(got, nil, 0o600))
			check(t, os.WriteFile(program, []byte("#!/bin/sh\nprintf '%s' \"$3\" > "+dir+"/route\nexit "+exit+"\n"), 0o700)) // #nosec: of a test
			command := strings.NewReplacer("%%", "%", "%f", "F", "%p", got).Replace(restoreCommand(program, word, dir+"/"+strings.ReplaceAll(word, "/", "_")))
			err := exec.Command("sh", "-c", command).Run()
			code, want := 0, 255
			if failed := (*exec.ExitError)(nil); errors.As(err, &failed) {
				code = failed.ExitCode()
			}
			if exit == "0" || exit == "10" {
				want = map[string]int{"0": 0, "10": 1}[exit]
			}
			if code != want {
				t.Errorf("exit %s became %d, not %d", exit, code, want)
			}
			if got, err := os.ReadFile(filepath.Join(dir, "route")); err != nil || string(got) != word {
				t.Errorf("%q arrived as %q, %v", word, got, err)
			}
			if _, err := os.Stat(canary); err == nil {
				t.Fatalf("%q escaped", word)
			}
		}
	}
}

// TestSuccessWithoutAFileIsAFailure: an empty program is one that succeeds, for sh.
func TestSuccessWithoutAFileIsAFailure(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"empty": "", "a script": "#!/bin/sh\nexit 0\n"} {
		program := filepath.Join(dir, "program")
		check(t, os.WriteFile(program, []byte(content), 0o700)) // #nosec: of a test
		command := strings.NewReplacer("%%", "%", "%f", "F", "%p", filepath.Join(dir, "P")).Replace(restoreCommand(program, "route", filepath.Join(dir, "ahead")))
		var failed *exec.ExitError
		if err := exec.Command("sh", "-c", command).Run(); !errors.As(err, &failed) || failed.ExitCode() != 255 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTheShellServesWhatWasFetchedAhead: without a program of ours, whatever the directory's name is; what is not there is asked of wal-get.
func TestTheShellServesWhatWasFetchedAhead(t *testing.T) {
	for _, word := range hostile("canary") {
		dir := t.TempDir()
		ahead, got := filepath.Join(dir, strings.ReplaceAll(word, "/", "_")), filepath.Join(dir, "RECOVERYXLOG")
		check(t, os.Mkdir(ahead, 0o700))
		check(t, os.WriteFile(filepath.Join(ahead, "F"), []byte("a segment"), 0o600))
		command := strings.NewReplacer("%%", "%", "%f", "F", "%p", got).Replace(restoreCommand("/no/such/program", "route", ahead))
		if out, err := exec.Command("sh", "-c", command).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%q: %v %s", word, err, out)
		}
		if b, err := os.ReadFile(got); err != nil || string(b) != "a segment" {
			t.Errorf("%q: %q, %v", word, b, err)
		}
		var failed *exec.ExitError
		if err := exec.Command("sh", "-c", command).Run(); !errors.As(err, &failed) || failed.ExitCode() != 255 {
			t.Errorf("%q: a second time: %v", word, err)
		}
	}
}

// TestNoNameAddsASetting lets PostgreSQL read what is written.
func TestNoNameAddsASetting(t *testing.T) {
	s := pgtest.Start(t, pgtest.Options{Version: 15})
	auto := filepath.Join(s.DataDir, autoConf)
	for _, word := range append(hostile("/tmp/x"), "a\nport = 1", "'\nport = 1 #", `\'`, "a\\") {
		word = word[:min(len(word), 63)]
		route := plan.Route{Target: hclspec.Target{Restore: word, Inclusive: true}, TargetTimeline: 1}
		var b strings.Builder
		written := targetSettings(route)
		for _, x := range written {
			b.WriteString(x.name + " = " + quoteSetting(x.value) + "\n")
		}
		check(t, os.WriteFile(auto, []byte(b.String()), 0o644)) // #nosec: the server is another user
		got := s.SQL(t, "select setting from pg_file_settings where name = 'recovery_target_name' and sourcefile like '%auto.conf'")
		if got != word {
			t.Errorf("%q is read as %q", word, got)
		}
		if n := s.SQL(t, "select count(*) from pg_file_settings where sourcefile like '%auto.conf'"); n != strconv.Itoa(len(written)) {
			t.Errorf("%q makes %s settings", word, n)
		}
	}
}

func TestWithoutKeepsEverythingElse(t *testing.T) {
	in := "# a comment\nport = 1\nPORT=2\nwork_mem = '4MB'"
	if diff := cmp.Diff("# a comment\nwork_mem = '4MB'\n", without([]byte(in), map[string]bool{"port": true})); diff != "" {
		t.Error(diff)
	}
}

// TestPiecesGiveTheWholeChecksum cuts content at random and adds the pieces up in another order.
func TestPiecesGiveTheWholeChecksum(t *testing.T) {
	table := crc32.MakeTable(crc32.Castagnoli)
	rapid.Check(t, func(t *rapid.T) {
		content := rapid.SliceOfN(rapid.Byte(), 1, 2000).Draw(t, "content")
		cuts := rapid.SliceOfN(rapid.IntRange(0, len(content)), 0, 10).Draw(t, "cuts")
		cuts = append(cuts, 0, len(content))
		at := rapid.Permutation(cuts).Draw(t, "order")
		var sum uint32
		seen := map[int]bool{}
		for _, from := range at {
			if seen[from] || from == len(content) {
				continue
			}
			seen[from] = true
			to := len(content)
			for _, c := range cuts {
				if c > from {
					to = min(to, c)
				}
			}
			sum ^= share(table, content[from:to], int64(len(content)-to))
		}
		if got, want := whole(sum, int64(len(content))), crc32.Checksum(content, table); got != want {
			t.Fatalf("%08X, not %08X", got, want)
		}
	})
}
