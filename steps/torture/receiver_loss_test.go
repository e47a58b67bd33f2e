package torture_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/pgkeep/pgkeep/state/wal"
)

// refuseLoss fails the test when the spool does not hold what the server was told of, and gives that position. A receiver begins with cutting
// off what is there of an unfinished record: no commit waits for it, although a server that flushed a page in mid record was told of it.
func (x *site) refuseLoss(when string) wal.LSN {
	x.t.Helper()
	acked := x.acknowledged()
	if acked <= x.reserved {
		return acked
	}
	have := x.spooled()
	if acked <= have {
		return acked
	}
	if end, err := x.recordAfter(have); err != nil || end <= acked {
		x.t.Fatalf("%s: acknowledged %s, the spool ends at %s, and a record at %s, %v", when, acked, have, end, err)
	}
	return acked
}

// recordAfter gives where the record ends that begins at l or lies around it, and is not the last one.
func (x *site) recordAfter(l wal.LSN) (wal.LSN, error) {
	cmd := exec.Command(filepath.Join(x.server.Bin, "pg_waldump"), "-p", filepath.Join(x.server.DataDir, "pg_wal"), "-s", l.String(), "-n", "2")
	out, err := cmd.Output()
	for _, m := range regexp.MustCompile(`lsn: ([0-9A-F]+/[0-9A-F]+)`).FindAllStringSubmatch(string(out), -1) {
		next, err := wal.ParseLSN(m[1])
		if err != nil {
			return 0, err
		}
		if next == l {
			continue
		}
		const header, longHeader = 24, 40 // of a page, and of a segment's first
		if o := x.z.Offset(next); o == longHeader || o > longHeader && o%wal.PageSize == header {
			next -= wal.LSN(o % wal.PageSize)
		}
		return next, nil
	}
	return 0, errors.Join(fmt.Errorf("pg_waldump finds %q", out), err)
}

// spooled gives where the spool ends: of an unfinished segment counts what is the server's, for its file may have been filled with zeros
// beforehand. A file that is renamed or removed while it is looked at is looked for again.
func (x *site) spooled() wal.LSN {
	x.t.Helper()
	for {
		found, err := filepath.Glob(filepath.Join(x.o.Spool, "orders", "*", "0*"))
		if err != nil {
			x.t.Fatal(err)
		}
		var end wal.LSN
		for _, path := range found {
			var at wal.LSN
			if at, err = x.endOf(path); err != nil {
				break
			}
			end = max(end, at)
		}
		if err == nil {
			return min(end, x.flushed()) // both may go on with zeros
		}
		if !errors.Is(err, fs.ErrNotExist) {
			x.t.Fatal(err)
		}
	}
}

// endOf gives up to where a file of the spool holds the server's WAL; zero: an Open would remove it.
func (x *site) endOf(path string) (wal.LSN, error) {
	name, kind, _ := strings.Cut(filepath.Base(path), ".")
	seg, err := wal.ParseSegmentName(name, x.z)
	if err != nil {
		return 0, err
	}
	switch kind {
	case "", "done":
		return seg.End(x.z), nil
	case "partial":
	default:
		return 0, nil
	}
	have, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	want, err := os.ReadFile(filepath.Join(x.server.DataDir, "pg_wal", name))
	if err != nil {
		x.t.Fatal(err) // wal_keep_size keeps it
	}
	n := 0
	for n < min(len(have), len(want)) && have[n] == want[n] {
		n++
	}
	return seg.Start(x.z) + wal.LSN(n), nil
}
