package recovery

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgkeep/pgkeep/state/repository/seal"
)

// forger is a copy of a repository that somebody writes into who knows its format: what is changed is proved anew, up to the
// decision of the backup.
type forger struct {
	t       *testing.T
	oid     string // of the backup's tablespace
	outside string // a directory that nobody is to touch
	dir     string // of the repository
	backup  string // directory of the backup in it
	wal     string // directory of its segments
}

// member is one member of a list of files.
type member = map[string]any

// record changes a record and has it prove itself.
func (h *forger) record(body []byte, change func(map[string]any)) []byte {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	content := map[string]any{}
	check(h.t, d.Decode(&content))
	delete(content, "check")
	change(content)
	b, err := json.MarshalIndent(content, "", "  ")
	check(h.t, err)
	b = append(bytes.TrimSuffix(b, []byte("\n}")), ",\n  "...)
	return fmt.Appendf(b, "\"check\": \"%x\"\n}\n", sha256.Sum256(b))
}

// replace puts other bytes in the place of an object, which may have a second name in another copy.
func (h *forger) replace(path string, body []byte) {
	h.t.Helper()
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		check(h.t, err)
	}
	check(h.t, os.WriteFile(path, body, 0o600))
}

// put replaces an object of the backup, and has lists and decision speak for it.
func (h *forger) put(name string, body []byte) {
	h.t.Helper()
	h.replace(filepath.Join(h.backup, name), body)
	list := filepath.Join(h.backup, "sums", "000000")
	b, err := os.ReadFile(list)
	check(h.t, err)
	if !strings.Contains(string(b), "  "+name+"\n") {
		b = fmt.Appendf(b, "# 0\n-  %s\n", name)
	}
	lines := strings.Split(string(b), "\n")
	for i := range lines {
		if strings.HasSuffix(lines[i], "  "+name) {
			lines[i-1], lines[i] = fmt.Sprintf("# %d", len(body)), fmt.Sprintf("%x  %s", sha256.Sum256(body), name)
		}
	}
	b = []byte(strings.Join(lines, "\n"))
	h.replace(list, b)
	h.decision(func(c map[string]any) {
		c["sums"] = []any{map[string]any{"size": len(b), "sha256": fmt.Sprintf("%x", sha256.Sum256(b))}}
	})
}

// decision changes COMMIT.json.
func (h *forger) decision(change func(map[string]any)) {
	h.t.Helper()
	path := filepath.Join(h.backup, "COMMIT.json")
	b, err := os.ReadFile(path)
	check(h.t, err)
	h.replace(path, h.record(b, change))
}

// framed changes an object that is one compressed frame.
func (h *forger) framed(name string, change func([]byte) []byte) {
	h.t.Helper()
	b, err := os.ReadFile(filepath.Join(h.backup, name))
	check(h.t, err)
	d, err := seal.NewDeframer()
	check(h.t, err)
	defer d.Close()
	raw, err := d.Frame(nil, b, 128<<20)
	check(h.t, err)
	h.put(name, h.frameOf(change(raw)))
}

func (h *forger) frameOf(raw []byte) []byte {
	h.t.Helper()
	f, err := seal.NewFramer(seal.Codec{})
	check(h.t, err)
	b, err := f.Frame(nil, raw)
	check(h.t, err)
	return b
}

// list changes the list of files.
func (h *forger) list(change func(shard map[string]any)) {
	h.t.Helper()
	h.framed("files/000000", func(raw []byte) []byte {
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber()
		shard := map[string]any{}
		check(h.t, d.Decode(&shard))
		change(shard)
		out, err := json.Marshal(shard)
		check(h.t, err)
		return out
	})
}

// add adds members behind all others. One that says neither is a file with the content of PG_VERSION.
func (h *forger) add(members ...member) {
	h.t.Helper()
	h.list(func(shard map[string]any) {
		all := shard["members"].([]any)
		for _, m := range members {
			add := member{}
			if m["t"] == nil {
				for k, v := range versionOf(all) {
					add[k] = v
				}
			} else {
				add["m"], add["T"] = 0o600, 0
			}
			for k, v := range m {
				add[k] = v
				if k == "ph" {
					delete(add, "p")
				}
			}
			all = append(all, add)
		}
		shard["members"] = all
	})
}

// set changes the member PG_VERSION.
func (h *forger) set(changes member) {
	h.t.Helper()
	h.list(func(shard map[string]any) {
		m := versionOf(shard["members"].([]any))
		for k, v := range changes {
			m[k] = v
		}
	})
}

// frame changes the frame in which PG_VERSION lies.
func (h *forger) frame(changes map[string]any) {
	h.t.Helper()
	h.list(func(shard map[string]any) {
		m := versionOf(shard["members"].([]any))
		n, err := m["x"].([]any)[0].([]any)[0].(json.Number).Int64()
		check(h.t, err)
		f := shard["frames"].([]any)[n].(map[string]any)
		for k, v := range changes {
			f[k] = v
		}
	})
}

func versionOf(members []any) member {
	for _, m := range members {
		if x := m.(member); x["p"] == "PG_VERSION" && x["d"] == nil {
			return x
		}
	}
	return nil
}

// folders changes the list of folders.
func (h *forger) folders(change func(folders []any) []any) {
	h.t.Helper()
	const name = "backup_manifest/folders.json"
	b, err := os.ReadFile(filepath.Join(h.backup, name))
	check(h.t, err)
	h.put(name, h.record(b, func(c map[string]any) { c["folders"] = change(c["folders"].([]any)) }))
}

// segments lists the objects of the archived segments, oldest first.
func (h *forger) segments() []string {
	h.t.Helper()
	found, err := filepath.Glob(filepath.Join(h.wal, "00000001", "00000000", strings.Repeat("?", 24)))
	check(h.t, err)
	return found
}

// tree tells all of a directory, with the content of files, but for what lies in one of its directories.
func tree(t testing.TB, dir, without string) string {
	t.Helper()
	var b strings.Builder
	check(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == without {
			return orSkip(err)
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		what := ""
		switch {
		case d.Type().IsRegular():
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			sum := sha256.Sum256(content)
			what = hex.EncodeToString(sum[:8])
		case d.Type()&fs.ModeSymlink != 0:
			what, err = os.Readlink(path)
		}
		fmt.Fprintf(&b, "%s %s %s\n", path, info.Mode(), what)
		return err
	}))
	return b.String()
}

func orSkip(err error) error {
	if err != nil {
		return err
	}
	return fs.SkipDir
}

// cloned gives a directory the files of another by second names.
func cloned(t testing.TB, from, to string) {
	t.Helper()
	check(t, filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		into := filepath.Join(to, strings.TrimPrefix(path, from))
		if d.IsDir() {
			return os.MkdirAll(into, 0o700)
		}
		return os.Link(path, into)
	}))
}
