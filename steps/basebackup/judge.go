package basebackup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/wal"
)

// A page that fails its checksum here while the server did not object is a suspect: the server looks at a page twice, but
// stops looking at a file that ends in a part of a page, and a page may be torn by a write that was under way. Nobody but a
// superuser can read a single page again; the backup's own WAL answers better. A write during the backup leaves, from
// the redo position on, a record that holds the whole page, because the server forces full page images while a backup runs; replay writes
// the page anew from it, whatever was copied. A suspect that no such record renews was not being written: it is damaged on
// the server's disk, and a restore would have it so.

// judgement is what became of the pages that failed.
type judgement struct {
	damaged  []repository.DamagedPages
	suspects []repository.DamagedPages // not to be told: the WAL could not be read; or maps, of which not every write is in WAL
	renewed  int64
	text     string // why the backup is damaged; empty: it is not
}

// judgePatience bounds how long a backup waits for its own WAL when it has suspects.
const judgePatience = 10 * time.Minute

// judge decides about the pages that failed, after the server said that it is done. It asks the same session for the WAL
// when there are suspects; the session can do nothing else afterwards.
func (t *taking) judge(ctx context.Context, conn *postgres.Replication, info postgres.BackupResult) judgement {
	pages := t.pages.list()
	if info.Damaged != nil {
		return judgement{damaged: pages, text: info.Damaged.Text}
	}
	if len(pages) == 0 {
		return judgement{}
	}
	s := newSuspects(pages)
	ctx, cancel := context.WithTimeout(ctx, judgePatience)
	defer cancel()
	if err := t.readWAL(ctx, conn, info.StopLSN, s.renew); err != nil {
		return judgement{suspects: pages} // told, and to be looked at: pgkeep verify
	}
	return s.judgement()
}

// readWAL shows the pages that the WAL from the backup's redo position to its end names.
func (t *taking) readWAL(ctx context.Context, conn *postgres.Replication, stop wal.LSN, visit func(wal.Block)) error {
	size, err := conn.SegmentSize(ctx)
	if err != nil {
		return err
	}
	system, err := strconv.ParseUint(t.dst[0].Key().SystemID, 10, 64)
	if err != nil {
		return fmt.Errorf("read system identifier: %w", err)
	}
	seg := size.SegmentAt(t.start.Timeline, t.start.LSN)
	stream, err := conn.Stream(ctx, postgres.StreamOptions{Timeline: t.start.Timeline, From: seg.Start(size)})
	if err != nil {
		return err
	}
	r := &walReader{ctx: ctx, stream: stream, at: seg.Start(size)}
	scan := wal.NewScanner(size, system, t.start.Timeline)
	scan.EveryBlock(func(start wal.LSN, b wal.Block) error {
		if start >= t.start.LSN && start < stop {
			visit(b)
		}
		return nil
	})
	for ; seg.Start(size) < stop; seg = seg.Next() {
		sum, err := scan.Segment(seg, io.LimitReader(r, int64(min(stop, seg.End(size))-seg.Start(size))), nil)
		if err != nil {
			return err
		}
		if r.err != nil {
			return r.err
		}
		if sum.End+longHeader < min(stop, seg.End(size)) {
			return fmt.Errorf("the WAL ends at %s, before the backup's end at %s", sum.End, stop)
		}
	}
	return nil
}

// longHeader bounds what may stand between the end of the last record and the backup's end: a page header.
const longHeader = 40

// walReader reads the WAL of a stream as bytes.
type walReader struct {
	ctx    context.Context // of the one call that reads
	stream *postgres.Stream
	at     wal.LSN
	rest   []byte
	err    error
}

// Read gives the next bytes of WAL.
func (r *walReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		m, err := r.stream.Next(r.ctx, time.Time{})
		if errors.Is(err, postgres.ErrIdle) {
			continue
		}
		if err != nil {
			r.err = err
			return 0, err
		}
		r.rest = bytes.Clone(m.Data)
	}
	n := copy(p, r.rest)
	r.rest, r.at = r.rest[n:], r.at+wal.LSN(n)
	return n, nil
}

// place names one file's relation and fork as WAL does.
type place struct {
	tablespace, database, relation uint32
	fork                           uint8
}

// Tablespaces that paths do not name by their oids, from pg_tablespace.dat.
const (
	defaultTablespace = 1663
	globalTablespace  = 1664
)

// The forks that PostgreSQL reads with RBM_ZERO_ON_ERROR: a page that fails its checksum is taken as empty, and does no harm.
const (
	freeSpaceMap  = 1
	visibilityMap = 2
)

// suspects are pages to be found in WAL.
type suspects struct {
	pages []repository.DamagedPages
	open  map[place]map[uint32]bool // blocks that no WAL has renewed; false: it never will
}

func newSuspects(pages []repository.DamagedPages) *suspects {
	s := &suspects{pages: pages, open: map[place]map[uint32]bool{}}
	for _, p := range pages {
		at, ok := placeOf(p.Path)
		if !ok {
			continue
		}
		if s.open[at] == nil {
			s.open[at] = map[uint32]bool{}
		}
		for _, b := range p.Blocks {
			s.open[at][b] = true
		}
	}
	return s
}

// renew takes a page that WAL names. The first record that names it decides: replay writes the page without reading it, or
// reads the bad page and stops.
func (s *suspects) renew(b wal.Block) {
	blocks := s.open[place{b.Tablespace, b.Database, b.Relation, b.Fork}]
	if !blocks[b.Number] {
		return
	}
	if b.Whole {
		delete(blocks, b.Number)
	} else {
		blocks[b.Number] = false
	}
}

// judgement sorts the pages.
func (s *suspects) judgement() judgement {
	var j judgement
	for _, p := range s.pages {
		at, known := placeOf(p.Path)
		if !known || at.fork == freeSpaceMap {
			j.suspects = append(j.suspects, p)
			continue
		}
		bad := repository.DamagedPages{Path: p.Path, Count: p.Count - int64(len(p.Blocks))}
		unnamed := bad.Count
		for _, b := range p.Blocks {
			if _, stays := s.open[at][b]; stays {
				bad.Blocks = append(bad.Blocks, b)
				bad.Count++
			} else {
				j.renewed++
			}
		}
		switch {
		case at.fork == visibilityMap && bad.Count > 0: // clearing its bits names no page of it
			j.suspects = append(j.suspects, bad)
		case len(bad.Blocks) > 0:
			j.damaged = append(j.damaged, bad)
		case unnamed > 0: // more than a thousand in one file, and those that are known are renewed
			j.suspects = append(j.suspects, bad)
		}
	}
	if len(j.damaged) > 0 {
		j.text = "pages fail their checksum that the server did not look at, and no WAL of the backup writes them anew"
	}
	return j
}

// placeOf reads the name of a relation's file, as the manifest has it.
func placeOf(path string) (place, bool) {
	if !isRelation(path) {
		return place{}, false
	}
	parts := strings.Split(path, "/")
	p := place{tablespace: globalTablespace}
	var bad error
	oid := func(digits string) uint32 {
		n, err := strconv.ParseUint(digits, 10, 32)
		bad = errors.Join(bad, err)
		return uint32(n)
	}
	if parts[0] != "global" {
		p.tablespace, p.database = defaultTablespace, oid(parts[len(parts)-2])
	}
	if parts[0] == "pg_tblspc" {
		p.tablespace = oid(parts[1])
	}
	name, _, _ := strings.Cut(parts[len(parts)-1], ".")
	digits, fork, _ := strings.Cut(name, "_")
	if p.relation = oid(digits); bad != nil {
		return place{}, false
	}
	p.fork = map[string]uint8{"": 0, "fsm": freeSpaceMap, "vm": visibilityMap, "init": 3}[fork]
	return p, true
}
