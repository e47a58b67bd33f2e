package basebackup

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/zeebo/xxh3"

	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest"
)

// newTaking is a backup under way into a store in memory, of a server with one tablespace.
func newTaking(t testing.TB, version int) *taking {
	t.Helper()
	repo, err := repository.Create(t.Context(), storetest.NewMemory(time.Now), repository.CreateOptions{Now: testClock})
	check(t, err)
	k := &taking{
		ctx: t.Context(), o: Options{Now: func() time.Time { return testClock }}, id: repository.NewBackupID(testClock, repository.KindFull, 7),
		version: version, dst: []*repository.Cluster{repo.Cluster("orders", "7335180256203400928")}, outcomes: make([]Outcome, 1),
		members: newMembers(), began: testClock,
	}
	check(t, k.Begin(postgres.BackupStart{LSN: 0x3000028, Timeline: 1, Tablespaces: []postgres.BackupTablespace{{OID: 16384, Location: "/srv/fast"}, {}}}))
	t.Cleanup(func() { k.abort(t.Context(), io.EOF) })
	return k
}

// entry is one tar member of a hostile stream.
type entry struct {
	name string
	kind byte // 0: regular
	link string
	data string
	edit func(header []byte) // of the raw header, before its checksum
}

// stream makes a tar stream byte by byte, as only a hostile server would.
func stream(entries ...entry) []byte {
	var b bytes.Buffer
	for _, e := range entries {
		h := make([]byte, 512)
		copy(h, e.name)
		copy(h[100:], "0000600\x00")
		copy(h[108:], "0000000\x000000000\x00")
		copy(h[124:], fmt.Sprintf("%011o\x00", len(e.data)))
		copy(h[136:], fmt.Sprintf("%011o\x00", testClock.Unix()))
		h[156] = e.kind
		if e.kind == 0 {
			h[156] = '0'
		}
		copy(h[157:], e.link)
		copy(h[257:], "ustar\x0000")
		if e.edit != nil {
			e.edit(h)
		}
		copy(h[148:], "        ")
		sum := 0
		for _, c := range h {
			sum += int(c)
		}
		copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
		b.Write(h)
		b.WriteString(e.data)
		b.Write(make([]byte, -len(e.data)&511))
	}
	return b.Bytes()
}

func closed(b []byte) []byte { return append(b, make([]byte, 1024)...) }

func dir(name string) entry { return entry{name: name + "/", kind: '5'} }

func TestHostileTarIsRefused(t *testing.T) {
	deep := strings.Repeat("d/", 60)
	cases := map[string][]byte{
		"dot dot":                   closed(stream(entry{name: "../evil"})),
		"dot dot inside":            closed(stream(dir("base"), entry{name: "base/../../evil"})),
		"dot dot at the end":        closed(stream(dir("base"), entry{name: "base/.."})),
		"only dot dot":              closed(stream(dir(".."))),
		"absolute":                  closed(stream(entry{name: "/etc/passwd"})),
		"absolute directory":        closed(stream(dir("/etc"))),
		"two slashes":               closed(stream(dir("base"), entry{name: "base//evil"})),
		"dot":                       closed(stream(dir("."))),
		"dots before":               closed(stream(entry{name: "././evil"})),
		"dot inside":                closed(stream(dir("base"), entry{name: "base/./evil"})),
		"empty name":                closed(stream(entry{name: ""})),
		"newline":                   closed(stream(entry{name: "a\nb"})),
		"escape":                    closed(stream(entry{name: "a\x1b[2J"})),
		"delete character":          closed(stream(entry{name: "a\x7f"})),
		"NUL inside":                closed(stream(entry{name: "a\x00../../evil"})),
		"link to a file":            closed(stream(entry{name: "passwd", kind: '2', link: "/etc/passwd"})),
		"link upwards":              closed(stream(entry{name: "up", kind: '2', link: "../.."})),
		"link to itself":            closed(stream(entry{name: "me", kind: '2', link: "me"})),
		"tablespace link elsewhere": closed(stream(dir("pg_tblspc"), entry{name: "pg_tblspc/16384", kind: '2', link: "/etc"})),
		"through a later link":      closed(stream(dir("pg_tblspc"), entry{name: "pg_tblspc/99", kind: '2', link: "/srv/fast"}, entry{name: "pg_tblspc/99/evil"})),
		"later link with content":   closed(stream(dir("pg_tblspc"), entry{name: "pg_tblspc/99", kind: '2', link: "/srv/fast", data: "evil"})),
		"tablespace with zeros":     closed(stream(dir("pg_tblspc"), entry{name: "pg_tblspc/016384", kind: '2', link: "/srv/fast"})),
		"tablespace 0":              closed(stream(dir("pg_tblspc"), entry{name: "pg_tblspc/0", kind: '2', link: ""})),
		"write through a link":      closed(stream(dir("pg_tblspc"), entry{name: "pg_tblspc/16384", kind: '2', link: "/srv/fast"}, entry{name: "pg_tblspc/16384/evil"})),
		"link twice":                closed(stream(dir("pg_tblspc"), entry{name: "pg_tblspc/16384", kind: '2', link: "/srv/fast"}, entry{name: "pg_tblspc/16384", kind: '2', link: "/srv/fast"})),
		"link with content":         closed(stream(dir("pg_tblspc"), entry{name: "pg_tblspc/16384", kind: '2', link: "/srv/fast", data: "evil"})),
		"directory with content":    closed(stream(entry{name: "base/", kind: '5', data: "evil"})),
		"hard link":                 closed(stream(entry{name: "a"}, entry{name: "b", kind: '1', link: "a"})),
		"hard link out":             closed(stream(entry{name: "b", kind: '1', link: "/etc/passwd"})),
		"character device":          closed(stream(entry{name: "null", kind: '3'})),
		"block device":              closed(stream(entry{name: "sda", kind: '4'})),
		"fifo":                      closed(stream(entry{name: "pipe", kind: '6'})),
		"contiguous file":           closed(stream(entry{name: "c", kind: '7'})),
		"unknown type":              closed(stream(entry{name: "x", kind: 'Z'})),
		"GNU volume header":         closed(stream(entry{name: "v", kind: 'V'})),
		"GNU multi volume":          closed(stream(entry{name: "m", kind: 'M'})),
		"GNU sparse":                closed(stream(entry{name: "s", kind: 'S'})),
		"GNU long name":             closed(stream(entry{name: "././@LongLink", kind: 'L', data: strings.Repeat("a", 300) + "\x00"}, entry{name: "a"})),
		"GNU long link":             closed(stream(entry{name: "././@LongLink", kind: 'K', data: "/etc\x00"}, entry{name: "a", kind: '2'})),
		"PAX path":                  closed(stream(entry{name: "pax", kind: 'x', data: "19 path=../../evil\n"}, entry{name: "a"})),
		"PAX size":                  closed(stream(entry{name: "pax", kind: 'x', data: "13 size=9999\n"}, entry{name: "a"})),
		"PAX sparse":                closed(stream(entry{name: "pax", kind: 'x', data: "22 GNU.sparse.major=1\n"}, entry{name: "a"})),
		"PAX global":                closed(stream(entry{name: "pax", kind: 'g', data: "19 path=../../evil\n"}, entry{name: "a"})),
		"huge PAX":                  closed(stream(entry{name: "pax", kind: 'x', data: strings.Repeat("9", 900_000)}, entry{name: "a"})),
		"twice":                     closed(stream(entry{name: "a"}, entry{name: "a"})),
		"twice, other type":         closed(stream(dir("a"), entry{name: "a"})),
		"directory over a file":     closed(stream(entry{name: "a"}, dir("a"))),
		"below a file":              closed(stream(entry{name: "a"}, entry{name: "a/b"})),
		"without its directory":     closed(stream(entry{name: "base/5/1234"})),
		"too deep without parents":  closed(stream(entry{name: deep[:99]})),
		"file named as directory":   closed(stream(entry{name: "a/", kind: '0'})),
		"negative size":             closed(stream(entry{name: "a", edit: func(h []byte) { copy(h[124:], "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff") }})),
		"size beyond the stream":    closed(stream(entry{name: "a", edit: func(h []byte) { copy(h[124:], "00000777777\x00") }})),
		"size of exabytes":          closed(stream(entry{name: "a", edit: func(h []byte) { copy(h[124:], "\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff") }})),
		"size that is no number":    closed(stream(entry{name: "a", edit: func(h []byte) { copy(h[124:], "zzzzzzzzzzz\x00") }})),
		"size too small":            closed(stream(entry{name: "a", data: strings.Repeat("x", 2048), edit: func(h []byte) { copy(h[124:], "00000000001\x00") }})),
		"bad header checksum":       closed(append(stream(entry{name: "a"})[:511], 'x')),
		"rubbish":                   bytes.Repeat([]byte("rubbish "), 128),
		"prefix upwards":            closed(stream(entry{name: "evil", edit: func(h []byte) { copy(h[345:], "..") }})),
		"no end":                    stream(entry{name: "a", data: "x"}),
		"half an end":               append(stream(entry{name: "a", data: "x"}), make([]byte, 512)...),
		"cut in a header":           stream(entry{name: "a"})[:300],
		"cut in the data":           stream(entry{name: "a", data: strings.Repeat("x", 4096)})[:1500],
		"cut in the padding":        stream(entry{name: "a", data: "x"})[:700],
		"data after the end":        append(closed(stream(entry{name: "a"})), stream(entry{name: "evil"})...),
		"rubbish after the end":     append(closed(stream(entry{name: "a"})), bytes.Repeat([]byte{1}, 512)...),
		"endless zeros":             append(stream(entry{name: "a"}), make([]byte, 10<<20)...),
	}
	if len(cases) < 64 {
		t.Errorf("%d cases", len(cases))
	}
	for name, b := range cases {
		t.Run(name, func(t *testing.T) {
			k := newTaking(t, 150018)
			if err := k.Archive(postgres.BackupTablespace{}, bytes.NewReader(b)); err == nil {
				t.Error("taken")
			} else if len(err.Error()) > 500 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
		})
	}
}

func TestTabletarRefusesLinks(t *testing.T) {
	k := newTaking(t, 150018)
	b := closed(stream(dir("pg_tblspc"), entry{name: "pg_tblspc/16384", kind: '2', link: "/srv/fast"}))
	if err := k.Archive(postgres.BackupTablespace{OID: 16384}, bytes.NewReader(b)); err == nil {
		t.Error("a link in a tablespace was taken")
	}
}

// TestALaterTablespaceIsLeftOut: a tablespace that was created while the backup ran has its link in the archive and no files.
func TestALaterTablespaceIsLeftOut(t *testing.T) {
	k := newTaking(t, 150018)
	b := closed(stream(dir("pg_tblspc"), entry{name: "a", data: "x"}, entry{name: "pg_tblspc/99", kind: '2', link: "/srv/late"}, entry{name: "z", data: "y"}))
	check(t, k.Archive(postgres.BackupTablespace{}, bytes.NewReader(b)))
	for path, want := range map[string]bool{"a": true, "pg_tblspc": true, "pg_tblspc/99": false, "z": true} {
		if _, came := k.members.known.find(xxh3.HashString128(path)); came != want {
			t.Errorf("%s came: %t", path, came)
		}
	}
}

func TestOldServersLeaveTheEndOut(t *testing.T) {
	k := newTaking(t, 140023)
	check(t, k.Archive(postgres.BackupTablespace{}, bytes.NewReader(stream(entry{name: "a", data: "x"}))))
	for _, cut := range []int{600, 700, 1023} {
		k := newTaking(t, 140023)
		if err := k.Archive(postgres.BackupTablespace{}, bytes.NewReader(stream(entry{name: "a", data: "x"})[:cut])); err == nil {
			t.Errorf("a stream cut at %d was taken", cut)
		}
	}
}

// manifestOf makes a manifest of version 1.
func manifestOf(t testing.TB, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	b.WriteString("{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [")
	sep := "\n"
	for path, data := range files {
		name, err := json.Marshal(path)
		check(t, err)
		fmt.Fprintf(&b, "%s{ \"Path\": %s, \"Size\": %d, \"Last-Modified\": \"2026-02-10 21:16:17 GMT\", \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": %q }",
			sep, name, len(data), postgres.ManifestCRC32C(updateCRC(0, []byte(data))))
		sep = ",\n"
	}
	b.WriteString("\n],\n\"WAL-Ranges\": [\n{ \"Timeline\": 1, \"Start-LSN\": \"0/3000028\", \"End-LSN\": \"0/3000100\" }\n],\n")
	fmt.Fprintf(&b, "\"Manifest-Checksum\": \"%x\"}\n", sha256.Sum256(b.Bytes()))
	return b.Bytes()
}

func TestManifestDecides(t *testing.T) {
	came := []entry{dir("base"), {name: "base/1", data: "one"}, {name: "base/2", data: ""}, {name: "backup_label", data: "label"}}
	whole := map[string]string{"base/1": "one", "base/2": "", "backup_label": "label"}
	for _, c := range []struct {
		name string
		edit func(map[string]string)
		ok   bool
	}{
		{"agrees", func(map[string]string) {}, true},
		{"lists more", func(m map[string]string) { m["base/3"] = "three" }, false},
		{"lists a directory", func(m map[string]string) { m["base"] = "" }, false},
		{"lists less", func(m map[string]string) { delete(m, "base/1") }, false},
		{"lists another size", func(m map[string]string) { m["base/1"] = "four" }, false},
		{"lists another checksum", func(m map[string]string) { m["base/1"] = "two" }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newTaking(t, 150018)
			check(t, k.Archive(postgres.BackupTablespace{}, bytes.NewReader(closed(stream(came...)))))
			files := map[string]string{}
			for p, d := range whole {
				files[p] = d
			}
			c.edit(files)
			err := k.Manifest(bytes.NewReader(manifestOf(t, files)))
			if (err == nil) != c.ok {
				t.Errorf("error %v", err)
			}
			if err != nil && state.CodeOf(err) == "" {
				t.Errorf("no code in %v", err)
			}
		})
	}
	t.Run("a flipped bit", func(t *testing.T) {
		k := newTaking(t, 150018)
		check(t, k.Archive(postgres.BackupTablespace{}, bytes.NewReader(closed(stream(came...)))))
		b := manifestOf(t, whole)
		b[len(b)/2] ^= 1
		if err := k.Manifest(bytes.NewReader(b)); err == nil {
			t.Error("taken")
		}
	})
}

// FuzzArchive feeds streams: whatever is taken must be tar to archive/tar too, with names that stay inside.
func FuzzArchive(f *testing.F) {
	f.Add(closed(stream(dir("base"), entry{name: "base/1", data: "one"})))
	f.Add(stream(entry{name: "../evil"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		k := newTaking(t, 150018)
		if k.Archive(postgres.BackupTablespace{}, bytes.NewReader(b)) != nil {
			return
		}
		tr := tar.NewReader(bytes.NewReader(b))
		for {
			h, err := tr.Next()
			if err == io.EOF {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(h.Name, "/") || strings.Contains("/"+h.Name+"/", "/../") {
				t.Fatalf("took %q", h.Name)
			}
		}
	})
}
