package recovery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/cenkalti/backoff/v5"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/wal"
)

// forStandby gives a standby a segment of its route, for which it is asked without end: a promotion must not leave WAL out that must
// exist. The standby does without only what it has itself.
func (g *getting) forStandby(ctx context.Context, seg wal.Segment, get func() error) (int, error) {
	own := filepath.Join(filepath.Dir(g.Into), g.Name)
	upTo, _ := g.route.needs(seg)
	for {
		err := g.again(ctx, g.route.patience(), get)
		switch {
		case err == nil && upTo < seg.End(g.route.SegmentSize):
			return unlessStreamed(g.Into, own)
		case err == nil:
			return ExitGot, nil
		case ctx.Err() != nil || state.CodeOf(err) == state.CodeDestination: // of the guard
			return ExitFailed, fmt.Errorf("get %s: %w", g.Name, err)
		}
		if end, failed := endOf(own, g.route, seg); failed == nil && end >= upTo {
			return ExitAbsent, fmt.Errorf("get %s: the standby has it up to %s, and may go on with that: %w", g.Name, end, err)
		}
	}
}

// unlessStreamed keeps a segment that was archived in part from taking the place of one that the standby has streamed more of: PostgreSQL
// puts what it is given over the segment in pg_wal, ends a promotion with a PANIC where a record that it has replayed is gone by that,
// and has lost it when the primary is gone too.
func unlessStreamed(into, own string) (int, error) {
	has, err := beginsWith(own, into)
	if err != nil || has {
		err = errors.Join(err, os.Remove(into))
	}
	switch {
	case err != nil:
		return ExitFailed, err
	case has:
		return ExitAbsent, nil
	}
	return ExitGot, nil
}

// beginsWith tells whether a file begins with what another holds, whose end is zeros. One that is not there does not.
func beginsWith(own, other string) (bool, error) {
	mine, err := os.Open(own)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer mine.Close()
	theirs, err := os.Open(other)
	if err != nil {
		return false, err
	}
	defer theirs.Close()
	a, b := make([]byte, wal.PageSize), make([]byte, wal.PageSize)
	for same := true; ; {
		n, ended := io.ReadFull(theirs, b)
		if ended != nil && !errors.Is(ended, io.EOF) && !errors.Is(ended, io.ErrUnexpectedEOF) {
			return false, ended
		}
		at := 0
		if same {
			m, err := io.ReadFull(mine, a)
			if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				return false, err
			}
			for at < min(n, m) && a[at] == b[at] {
				at++
			}
			same = at == n
		}
		if len(bytes.Trim(b[at:n], "\x00")) > 0 {
			return false, nil
		}
		if ended != nil {
			return true, nil
		}
	}
}

// endOf tells up to where a segment in pg_wal is WAL. One whose last record crosses its end is whole where the next segment has begun,
// for WAL comes in its order; its last bytes say nothing, as a file that is used again holds old ones there. At the route's end it is
// whole in any case: a record that ends behind the route is not replayed from it.
func endOf(own string, route *routeFile, seg wal.Segment) (wal.LSN, error) {
	z := route.SegmentSize
	f, err := os.Open(own)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	torn, err := endIn(f, route, seg, true)
	if err != nil || torn == seg.End(z) {
		return torn, err
	}
	whole, err := endIn(f, route, seg, false)
	if err != nil || whole < seg.End(z) {
		return torn, err // or not received to its end
	}
	if whole >= route.Path[len(route.Path)-1].To || begun(filepath.Dir(own), seg.Next(), route) {
		return whole, nil
	}
	return torn, nil
}

// endIn tells up to where a segment in pg_wal is WAL, torn as wal.Scanner has it. A record that began in segments before is checked if
// they are there too.
func endIn(f *os.File, route *routeFile, seg wal.Segment, torn bool) (wal.LSN, error) {
	system, err := strconv.ParseUint(route.SystemID, 10, 64)
	if err != nil {
		return 0, err
	}
	sc := wal.NewScanner(route.SegmentSize, system, seg.Timeline)
	dir := filepath.Dir(f.Name())
	_, err = sc.Lead(seg, func(before wal.Segment) (io.ReadCloser, error) {
		return os.Open(filepath.Join(dir, before.Name(route.SegmentSize)))
	})
	if err != nil {
		return 0, err
	}
	sc.Torn(torn)
	sum, err := sc.Segment(seg, io.NewSectionReader(f, 0, route.SegmentSize.Bytes()), nil)
	var c *wal.CorruptError
	if errors.As(err, &c) && !c.Foreign {
		err = nil
	}
	return sum.End, err
}

// begun tells whether a pg_wal has the beginning of a segment: on its own timeline, or on a later one, on which the server asks for it
// where the route goes over a failover.
func begun(dir string, seg wal.Segment, route *routeFile) bool {
	z := route.SegmentSize
	for t := seg.Timeline; t <= max(seg.Timeline, route.Timeline); t++ {
		next := wal.Segment{Timeline: t, Number: seg.Number}
		if some, err := writtenUpTo(filepath.Join(dir, next.Name(z)), next.Start(z)); err == nil && some > next.Start(z) {
			return true
		}
	}
	return false
}

// later gives a standby what was archived behind its route. Where no repository has that it is absent, and PostgreSQL asks its
// primary; also where a repository has not answered for as long as the route says, because a standby does not end its recovery then.
func (g *getting) later(ctx context.Context, seg wal.Segment) (int, error) {
	if !g.route.Standby {
		return ExitAbsent, nil
	}
	err := g.again(ctx, g.route.patience(), func() error {
		err := g.open(g.route, ctx).whole(ctx, seg, g.Into)
		if errors.Is(err, store.ErrNotExist) {
			return backoff.Permanent(err)
		}
		return err
	})
	switch {
	case err == nil:
		return ExitGot, nil
	case errors.Is(err, store.ErrNotExist):
		return ExitAbsent, nil
	case ctx.Err() != nil || state.CodeOf(err) == state.CodeDestination: // of the guard
		return ExitFailed, err
	}
	return ExitAbsent, fmt.Errorf("get %s: %w", g.Name, err)
}
