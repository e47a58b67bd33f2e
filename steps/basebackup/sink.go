package basebackup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/repository"
)

// taking is one backup under way; it is the postgres.BackupSink.
type taking struct {
	ctx       context.Context // of the one call that takes the backup
	o         Options
	id        string
	parent    *parentage  // of an incremental
	continued *continuing // cut backups; nil: none
	summaries bool        // the server tells which pages changed
	compared  string      // why it does not
	checksums string      // data_checksums of the server; empty: not known
	truncated map[postgres.Relation]uint32
	version   int
	dst       []*repository.Cluster
	outcomes  []Outcome
	groups    []*group
	leases    []*leasing
	idle      []begun // writers that have no stream yet

	start    postgres.BackupStart
	members  *members
	pages    pageReport
	label    []byte // backup_label
	manifest bool
	ended    bool // no folder any more

	began    time.Time
	reported time.Time
	marks    []mark
	done     int64
	total    int64
}

// group is the repositories that compress alike: they share one stream.
type group struct {
	at     []int // indexes into dst
	writes []*repository.BackupWriter
	stream *repository.BackupStream
	err    error // nothing more goes there
}

type begun struct {
	at     int
	writer *repository.BackupWriter
}

// Begin announces the backup in every repository, now that the position to recover from is known and before any data.
func (t *taking) Begin(s postgres.BackupStart) error {
	t.start = s
	if err := t.findTruncated(); err != nil {
		return err
	}
	for _, ts := range s.Tablespaces {
		if !t.summaries { // of what is sent then nobody knows the size
			t.total += max(0, ts.Size)
		}
	}
	in := repository.Intent{
		ID: t.id, Kind: t.kind(), Label: t.o.Label, Schedule: t.o.Schedule, Host: t.o.Host, Program: t.o.Program,
		Version: t.version, Timeline: s.Timeline, Start: s.LSN, Redo: s.LSN, FromStandby: t.o.FromStandby, Now: t.began,
		Machine: t.o.Machine, Leased: true, Checksums: t.checksums,
	}
	if t.o.LockDir != "" {
		in.Lock = repository.LockPlace(t.o.LockDir)
	}
	if t.parent != nil {
		in.Parent = t.o.Parent
	}
	for i, c := range t.dst {
		if t.parent != nil && t.parent.facts[i].ID == "" {
			continue // its outcome says why
		}
		w, err := c.BeginBackup(t.ctx, t.continued.intent(in, i))
		if err != nil {
			t.fail(i, err)
			continue
		}
		t.idle = append(t.idle, begun{i, w})
		t.leases = append(t.leases, t.beginLease(w))
	}
	if len(t.idle) == 0 {
		return t.failures()
	}
	return t.startStreams()
}

// startStreams groups the writers by codec, and by the bytes that they have of the parent.
func (t *taking) startStreams() error {
	var groups []*group
next:
	for _, b := range t.idle {
		for _, g := range groups {
			if g.writes[0].Codec() == b.writer.Codec() && t.copyOfParent(g.at[0]) == t.copyOfParent(b.at) {
				g.at, g.writes = append(g.at, b.at), append(g.writes, b.writer)
				continue next
			}
		}
		groups = append(groups, &group{at: []int{b.at}, writes: []*repository.BackupWriter{b.writer}})
	}
	for _, g := range groups {
		o := repository.StreamOptions{
			StallTimeout: t.o.StallTimeout, Inspect: t.inspect, Parent: t.openParent(g.at[0]), Streams: len(groups),
			Summaries: t.summaries, Marks: t.distance(),
		}
		s, err := repository.NewBackupStream(t.ctx, g.writes, t.continued.options(o, g.at[0]))
		if err != nil {
			return err
		}
		g.stream = s
		t.groups = append(t.groups, g)
		t.idle = slices.DeleteFunc(t.idle, func(b begun) bool { return slices.Contains(g.at, b.at) })
	}
	return nil
}

// each does something for every group that still goes. A group that fails is left behind; when none is left, that is
// the error.
func (t *taking) each(do func(*group) error) error {
	live := 0
	var errs []error
	for _, g := range t.groups {
		if g.err == nil {
			g.err = do(g)
		}
		if g.err == nil {
			live++
		} else {
			errs = append(errs, g.err)
		}
	}
	if live == 0 {
		return errors.Join(errs...)
	}
	return nil
}

// Archive reads one folder's tar stream to its end.
func (t *taking) Archive(ts postgres.BackupTablespace, r io.Reader) error {
	plain, err := decompress(t.o.Compression, r)
	if err != nil {
		return err
	}
	defer func() { _ = plain.Close() }() // it only reads
	folders := make([]*repository.FolderWriter, len(t.groups))
	for i, g := range t.groups {
		folders[i] = g.stream.Folder(ts.OID, ts.Location)
	}
	f := &folder{t: t, ts: ts, writers: folders, terminated: t.version >= 150000}
	if err := f.read(plain); err != nil {
		return fmt.Errorf("read %s: %w", f.name(), err)
	}
	return nil
}

// Manifest stores PostgreSQL's manifest and compares it with what came.
func (t *taking) Manifest(r io.Reader) error {
	if err := t.endData(); err != nil {
		return err
	}
	t.manifest = true
	keep := writerFunc(func(p []byte) error {
		return t.each(func(g *group) error { return g.stream.WriteManifest(p) })
	})
	tee := io.TeeReader(r, keep)
	_, err := postgres.WalkManifest(tee, t.members.listed)
	if err == nil {
		err = t.members.allListed()
	}
	if err != nil {
		return &state.Error{Code: state.CodeCorrupt, Text: "the server's backup manifest and its data disagree", Hint: "take the backup again", Err: err}
	}
	if _, err := io.Copy(io.Discard, tee); err != nil {
		return fmt.Errorf("read backup manifest: %w", err)
	}
	return nil
}

func (t *taking) endData() error {
	if t.ended {
		return nil
	}
	t.ended = true
	return t.each(func(g *group) error { return g.stream.EndData() })
}

// complete checks, after the server said that it is done, that everything came and fits together.
func (t *taking) complete(info postgres.BackupResult) error {
	if !t.manifest {
		return errors.New("the server sent no manifest")
	}
	if t.label == nil {
		return errors.New("the server sent no backup_label")
	}
	l, err := postgres.ParseBackupLabel(t.label)
	if err != nil {
		return err
	}
	switch {
	case !t.fitsParent(l):
		return fmt.Errorf("backup_label says that the backup builds on %s of timeline %d", l.IncrementalFrom, l.IncrementalTimeline)
	case l.Start != t.start.LSN || l.Timeline != t.start.Timeline && l.Timeline != 0:
		return fmt.Errorf("backup_label begins at %s on timeline %d, the server said %s on timeline %d", l.Start, l.Timeline, t.start.LSN, t.start.Timeline)
	case info.Timeline != t.start.Timeline:
		return &state.Error{
			Code: state.CodeStale, Hint: "take the backup again",
			Text: fmt.Sprintf("the server was promoted during the backup: it began on timeline %d and ended on %d", t.start.Timeline, info.Timeline),
		}
	case info.StopLSN < t.start.LSN:
		return fmt.Errorf("the backup ends at %s, before its start %s", info.StopLSN, t.start.LSN)
	case l.FromStandby && !t.o.FromStandby:
		return &state.Error{
			Code: state.CodeStale, Hint: "plan again",
			Text: "the server that answered is a standby, and a primary was expected",
		}
	}
	return nil
}

// writerFunc is a function that takes all it is given.
type writerFunc func(p []byte) error

// Write gives p to the function.
func (f writerFunc) Write(p []byte) (int, error) {
	if err := f(p); err != nil {
		return 0, err
	}
	return len(p), nil
}
