package postgres_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/wal"
)

// sealed adds the checksum line that a server would write.
func sealed(body string) string {
	return fmt.Sprintf("%s\"Manifest-Checksum\": \"%x\"}\n", body, sha256.Sum256([]byte(body)))
}

const goodManifest = `{ "PostgreSQL-Backup-Manifest-Version": 2,
"System-Identifier": 18446744073709551615,
"Files": [
{ "Path": "backup_label", "Size": 227, "Last-Modified": "2026-11-22 21:45:00 GMT", "Checksum-Algorithm": "CRC32C", "Checksum": "e8b0f6f3" },
{ "Encoded-Path": "62617365ff", "Size": 0, "Last-Modified": "2026-11-22 21:45:01 GMT" }
],
"WAL-Ranges": [
{ "Timeline": 1, "Start-LSN": "0/2000028", "End-LSN": "0/2000100" }
],
`

func TestParseManifest(t *testing.T) {
	got, err := postgres.ParseManifest(strings.NewReader(sealed(goodManifest)))
	if err != nil {
		t.Fatal(err)
	}
	want := postgres.Manifest{
		Version: 2, SystemID: "18446744073709551615", WALRanges: []wal.Range{{Timeline: 1, From: 0x2000028, To: 0x2000100}},
		Files: []postgres.ManifestFile{
			{Path: "backup_label", Size: 227, ModTime: time.Date(2026, 11, 22, 21, 45, 0, 0, time.UTC), Algorithm: "CRC32C", Checksum: "e8b0f6f3"},
			{Path: "base\xff", ModTime: time.Date(2026, 11, 22, 21, 45, 1, 0, time.UTC)},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
	if got := postgres.ManifestCRC32C(0xf3f6b0e8); got != "e8b0f6f3" {
		t.Fatal(got)
	}
}

func TestParseManifestRefuses(t *testing.T) {
	replaced := func(old, new string) string { return sealed(strings.Replace(goodManifest, old, new, 1)) }
	whole := sealed(goodManifest)
	for name, in := range map[string]string{
		"empty":               "",
		"cut short":           whole[:len(whole)-20],
		"cut in the middle":   whole[:200],
		"another byte":        strings.Replace(whole, "227", "228", 1),
		"something after":     whole + "{}",
		"no checksum":         strings.TrimSuffix(strings.TrimSpace(goodManifest), ",") + "}\n",
		"version 3":           replaced("Version\": 2", "Version\": 3"),
		"version not first":   replaced(`"PostgreSQL-Backup-Manifest-Version": 2,`, ``),
		"system id 0":         replaced("18446744073709551615", "0"),
		"system id 1e3":       replaced("18446744073709551615", "1e3"),
		"path upwards":        replaced(`"backup_label"`, `"../backup_label"`),
		"absolute path":       replaced(`"backup_label"`, `"/etc/passwd"`),
		"path with NUL":       replaced(`"backup_label"`, `"a\u0000"`),
		"encoded upwards":     replaced(`62617365ff`, `2e2e2f61`),
		"encoded badly":       replaced(`62617365ff`, `6g`),
		"two paths":           replaced(`"Path": "backup_label"`, `"Path": "a", "Encoded-Path": "61"`),
		"no path":             replaced(`"Path": "backup_label",`, ``),
		"negative size":       replaced(`227`, `-1`),
		"unknown algorithm":   replaced(`CRC32C`, `MD5`),
		"short checksum":      replaced(`e8b0f6f3`, `e8`),
		"upper-case checksum": replaced(`e8b0f6f3`, `E8B0F6F3`),
		"no time":             replaced(`2026-11-22 21:45:00 GMT`, `yesterday`),
		"WAL backwards":       replaced(`0/2000100`, `0/2000000`),
		"timeline 0":          replaced(`"Timeline": 1`, `"Timeline": 0`),
		"unknown key":         replaced(`"WAL-Ranges"`, `"Wal-Ranges"`),
		"files twice":         replaced(`"WAL-Ranges"`, `"Files": [], "WAL-Ranges"`),
		"long element":        replaced(`backup_label`, strings.Repeat("a", 2<<20)),
		"long line":           sealed(strings.Replace(goodManifest, "\n\"WAL", strings.Repeat(" ", 2<<20)+"\n\"WAL", 1)),
	} {
		if m, err := postgres.ParseManifest(strings.NewReader(in)); err == nil {
			t.Errorf("%s: taken: %+v", name, m)
		}
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(goodManifest))
	f.Add([]byte(strings.Replace(goodManifest, "62617365ff", "2e2e", 1)))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, in := range [][]byte{b, []byte(sealed(string(b)))} {
			m, err := postgres.ParseManifest(bytes.NewReader(in))
			if err != nil {
				continue
			}
			for _, file := range m.Files {
				if !filepath.IsLocal(file.Path) || file.Size < 0 {
					t.Fatalf("%+v", file)
				}
			}
		}
	})
}

const goodLabel = `START WAL LOCATION: 0/2000028 (file 000000010000000000000002)
CHECKPOINT LOCATION: 0/2000060
BACKUP METHOD: streamed
BACKUP FROM: standby
START TIME: 2026-11-22 21:45:00 UTC
LABEL: a: b
START TIMELINE: 1
INCREMENTAL FROM LSN: 0/1000028
INCREMENTAL FROM TLI: 1
`

func TestParseBackupLabel(t *testing.T) {
	got, err := postgres.ParseBackupLabel([]byte(goodLabel))
	want := postgres.BackupLabel{
		Start: 0x2000028, Segment: "000000010000000000000002", Checkpoint: 0x2000060, Timeline: 1, FromStandby: true,
		StartTime: "2026-11-22 21:45:00 UTC", Label: "a: b", IncrementalFrom: 0x1000028, IncrementalTimeline: 1,
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Fatal(diff, err)
	}
	for _, change := range [][2]string{
		{"0/2000028", "2000028"},
		{"(file 000000010000000000000002)", ""},
		{"000000010000000000000002", "000000020000000000000002"},
		{"0/2000060", "0/1"},
		{"TIMELINE: 1", "TIMELINE: 0"},
		{"TIMELINE: 1", "TIMELINE: x"},
		{"LABEL: a: b", "LABEL"},
		{"START WAL", "STOP WAL"},
		{"a: b", strings.Repeat("a", 20<<10)},
	} {
		if got, err := postgres.ParseBackupLabel([]byte(strings.Replace(goodLabel, change[0], change[1], 1))); err == nil {
			t.Errorf("with %q for %q: %+v", change[1], change[0], got)
		}
	}
}

func FuzzParseBackupLabel(f *testing.F) {
	f.Add([]byte(goodLabel))
	f.Fuzz(func(t *testing.T, b []byte) {
		if l, err := postgres.ParseBackupLabel(b); err == nil && (l.Start == 0 || l.Timeline == 0 || len(l.Segment) != 24) {
			t.Fatalf("%+v", l)
		}
	})
}

func TestParseVersionsAndSizes(t *testing.T) {
	for in, want := range map[string]int{"15.18 (Debian 15.18-0+deb12u1)": 150018, "13.23": 130023, "18beta1": 180000, "18.4": 180004, "17": 170000, "": -1, "x": -1, "15.x": -1, "99999.1": -1} {
		got, err := postgres.ParseServerVersion(in)
		if (err != nil) != (want < 0) || err == nil && got != want {
			t.Errorf("%q: %d, %v", in, got, err)
		}
	}
	for in, want := range map[string]wal.SegmentSize{"1MB": 1 << 20, "16MB": 16 << 20, "1GB": 1 << 30, "16777216": 16 << 20, "2GB": 0, "3MB": 0, "1kB": 0, "MB": 0, "-1MB": 0, "": 0} {
		got, err := postgres.ParseSegmentSize(in)
		if (err != nil) != (want == 0) || err == nil && got != want {
			t.Errorf("%q: %d, %v", in, got, err)
		}
	}
}

func TestParseSettingTime(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"0": 0, "1ms": time.Millisecond, "500ms": time.Second / 2, "1s": time.Second, "1min": time.Minute, "90s": 90 * time.Second, "2h": 2 * time.Hour, "24d": 24 * 24 * time.Hour,
		"": -1, "s": -1, "1": -1, "-1s": -1, "1 s": -1, "1m": -1, "1us": -1, "25d": -1, "9999999999ms": -1,
	} {
		got, err := postgres.ParseSettingTime(in)
		if (err != nil) != (want < 0) || err == nil && got != want {
			t.Errorf("%q: %s, %v", in, got, err)
		}
	}
}

// tape is a connection whose other end has said all it will say.
type tape struct {
	net.Conn
	from *bytes.Reader
}

func (c tape) Read(p []byte) (int, error)       { return c.from.Read(p) }
func (tape) Write(p []byte) (int, error)        { return len(p), nil }
func (tape) Close() error                       { return nil }
func (tape) SetDeadline(time.Time) error        { return nil }
func (tape) SetReadDeadline(t time.Time) error  { return nil }
func (tape) SetWriteDeadline(t time.Time) error { return nil }

// FuzzWalsender lets a server say anything at all to each command.
func FuzzWalsender(f *testing.F) {
	f.Add([]byte{}, uint8(0))
	position, spaces := result(f, row("0/2000028", "1")), result(f, row("16384", "/a", "NULL"), row("NULL", "NULL", "100"))
	f.Add(append(append([]byte{}, both...), xlog(0x1000000, "abc")...), uint8(1))
	f.Add(append(append(append(append([]byte{}, both...), raw('c', "")...), result(f, row("2", "0/1000000"))...), ready(f)...), uint8(1))
	backup := append(append([]byte{}, position...), spaces...)
	for _, b := range [][]byte{raw('H', "\x00\x00\x00"), copyData("n16384.tar\x00/a\x00"), copyData("dx"), copyData("nbase.tar\x00\x00"), copyData("m"), raw('c', ""), position, ready(f)} {
		backup = append(backup, b...)
	}
	f.Add(backup, uint8(2))
	f.Add(append(backup, "E\x00\x00\x00\x04"...), uint8(3))
	f.Fuzz(func(t *testing.T, b []byte, command uint8) {
		r := postgres.OnConn(tape{from: bytes.NewReader(b)}, 130000+10000*int(command/4%6))
		ctx := context.Background()
		switch command % 4 {
		case 0:
			_, _ = r.IdentifySystem(ctx)
			_, _ = r.SegmentSize(ctx)
			_, _ = r.TimelineHistory(ctx, 2)
		case 1:
			s, err := r.Stream(ctx, postgres.StreamOptions{Timeline: 1, From: 0x1000000})
			at := wal.LSN(0x1000000)
			for err == nil {
				var m postgres.Message
				if m, err = s.Next(ctx, time.Time{}); err == nil && !m.Keepalive {
					if m.Start != at {
						t.Fatalf("WAL at %s after %s", m.Start, at)
					}
					at += wal.LSN(len(m.Data))
				}
			}
			var end *postgres.EndOfTimeline
			if errors.As(err, &end) && end.Next == 0 {
				t.Fatal("timeline 0 comes next")
			}
		default:
			res, err := r.BaseBackup(ctx, postgres.BackupOptions{}, &counted{})
			if err == nil && (res.Timeline == 0 || res.StopLSN < res.StartLSN) {
				t.Fatalf("%+v", res)
			}
		}
		if r.BufferSize() > 2<<20 {
			t.Fatalf("%d bytes set aside", r.BufferSize())
		}
	})
}
