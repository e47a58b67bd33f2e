package spool

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"github.com/pgkeep/pgkeep/state/wal"
)

// disk is what a power cut leaves of a spool's directory at any moment: the names that a directory fsync has seen, and in each file what an
// fsync of it has seen, or, before the first, nothing.
type disk struct {
	t      *testing.T
	s      sample
	mu     sync.Mutex
	ends   []wal.LSN         // of whole records
	names  map[string]uint64 // inodes
	data   map[uint64][]byte
	held   map[uint64]*os.File // open, so that no inode is used again
	before func() wal.LSN      // what is called flushed
	cuts   int
}

// hold keeps the file of this path open and gives its inode; 0: it is gone.
func (d *disk) hold(path string) uint64 {
	f, err := os.Open(path)
	if err != nil {
		return 0
	}
	fi, err := f.Stat()
	if err != nil {
		d.t.Error(err)
		return 0
	}
	ino := fi.Sys().(*syscall.Stat_t).Ino
	if d.held[ino] != nil {
		f.Close()
		return ino
	}
	d.held[ino] = f
	d.t.Cleanup(func() { f.Close() })
	return ino
}

func (d *disk) syncDir(dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cut("before a directory's fsync")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	seen := map[string]uint64{}
	for _, e := range entries {
		if ino := d.hold(filepath.Join(dir, e.Name())); e.Type().IsRegular() && ino != 0 {
			seen[e.Name()] = ino
		}
	}
	d.names = seen
	d.cut("after a directory's fsync")
	return nil
}

func (d *disk) syncData(f *os.File) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cut("before an fsync")
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	b := make([]byte, fi.Size())
	if n, err := f.ReadAt(b, 0); err != nil && err != io.EOF || n < len(b) {
		return fmt.Errorf("%d of %d bytes: %w", n, len(b), err)
	}
	ino := fi.Sys().(*syscall.Stat_t).Ino
	if d.held[ino] == nil { // it may have lost the name under which it was opened
		d.hold(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	}
	d.data[ino] = b
	d.cut("after an fsync")
	return nil
}

// cut cuts the power and opens what is left.
func (d *disk) cut(when string) {
	flushed := d.before()
	d.cuts++
	dir := filepath.Join(d.t.TempDir(), "orders", d.s.system)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		d.t.Error(err)
	}
	for name, ino := range d.names {
		if err := os.WriteFile(filepath.Join(dir, name), d.data[ino], 0o600); err != nil {
			d.t.Error(err)
		}
	}
	sp := d.s.open(d.t, filepath.Dir(filepath.Dir(dir)), Limit{Percent: 100})
	defer sp.Close()
	p, least := sp.Position(), d.s.start()
	for _, end := range d.ends {
		if end <= flushed {
			least = end
		}
	}
	if least > d.s.start() && (p.Timeline != 1 || p.Durable < least || p.Begin > d.s.start()) {
		d.t.Errorf("%s: flushed up to %s, which is whole up to %s, and a power cut leaves %+v", when, flushed, least, p)
	}
	if p.Timeline != 0 {
		d.s.holds(d.t, sp, p.Durable)
	}
	if err := os.RemoveAll(dir); err != nil {
		d.t.Error(err)
	}
}

// TestPowerCuts feeds a spool in pieces of many sizes, with segments that are prepared or not, and with streams that end, and cuts the
// power before and after each fsync.
func TestPowerCuts(t *testing.T) {
	s := wantWAL(t)
	rounds := uint64(8)
	if n, err := strconv.ParseUint(os.Getenv("PGKEEP_ROUNDS"), 10, 64); err == nil {
		rounds = n
	}
	for seed := range rounds {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) { powerCuts(t, s, rand.New(rand.NewPCG(seed, 8))) })
	}
}

func powerCuts(t *testing.T, s sample, r *rand.Rand) {
	sp := s.open(t, t.TempDir(), Limit{Percent: 100})
	defer sp.Close()
	var flushed struct {
		sync.Mutex
		at wal.LSN
	}
	d := &disk{t: t, s: s, ends: s.records(t), names: map[string]uint64{}, data: map[uint64][]byte{}, held: map[uint64]*os.File{}, before: func() wal.LSN {
		flushed.Lock()
		defer flushed.Unlock()
		return flushed.at
	}}
	size := filepath.Join(sp.dir, sizeName)
	b, err := os.ReadFile(size)
	if err != nil {
		t.Fatal(err)
	}
	d.names[sizeName] = d.hold(size)
	d.data[d.names[sizeName]] = b
	sp.syncDir, sp.syncData = d.syncDir, d.syncData
	for at := s.start(); at < s.end(); {
		w, err := sp.Writer(1, at, func(wal.Segment) {})
		if err != nil {
			t.Fatal(err)
		}
		rarely := 1 + r.IntN(12)
		for stop := at + wal.LSN(r.IntN(4*mib)); at < min(stop, s.end()); {
			n := min(wal.LSN(1+r.IntN(400_000)), s.end()-at)
			if err := w.Write(at, s.from(at)[:n]); err != nil {
				t.Fatal(err)
			}
			at += n
			if r.IntN(rarely) == 0 {
				if err := w.Sync(); err != nil {
					t.Fatal(err)
				}
			}
			if r.IntN(3) == 0 {
				w.Prepare()
			}
			if w.next != nil && r.IntN(2) == 0 {
				<-w.next.done
			}
			flushed.Lock()
			flushed.at = max(flushed.at, w.Flushed())
			flushed.Unlock()
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		flushed.Lock()
		flushed.at = max(flushed.at, w.Flushed())
		flushed.Unlock()
		at = max(sp.Position().Resume, s.start())
		if w.Flushed() == s.end() {
			break
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cut("at the end")
	if d.cuts < 10 || flushed.at != s.end() {
		t.Errorf("%d cuts, flushed up to %s", d.cuts, flushed.at)
	}
}

// records gives the ends of the sample's records.
func (s sample) records(t *testing.T) []wal.LSN {
	t.Helper()
	system, err := strconv.ParseUint(s.system, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	sc := wal.NewScanner(mib, system, 1)
	sc.EveryRecord()
	var ends []wal.LSN
	for i, seg := 0, s.first; i < 4; i, seg = i+1, seg.Next() {
		_, err := sc.Segment(seg, bytes.NewReader(s.from(seg.Start(mib))[:mib]), func(e wal.Event) error { ends = append(ends, e.End); return nil })
		if err != nil {
			t.Fatal(err)
		}
	}
	return ends
}
