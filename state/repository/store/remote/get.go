package remote

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/pgkeep/pgkeep/state/repository/store"
)

// Get is store.Store's. A connection that breaks while bytes arrive is opened again where it broke: objects never change.
func (s *Store) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if err := errors.Join(ctx.Err(), store.CheckKey(key)); err != nil {
		return nil, err
	}
	if off < 0 {
		return nil, fmt.Errorf("read object %s: offset %d is negative", key, off)
	}
	g := &reader{ctx: ctx, s: s, key: key, at: off, left: n}
	if err := g.open(); err != nil {
		return nil, err
	}
	return g, nil
}

// reader reads one object over as many connections as that takes.
type reader struct {
	ctx  context.Context
	s    *Store
	key  string
	at   int64         // offset of the next byte
	left int64         // bytes that are wanted still; negative: to the end
	r    io.ReadCloser // nil after a break
	idle int           // breaks in a row without a byte
}

func (g *reader) open() error {
	err := g.s.retry(g.ctx, func(ctx context.Context) (err error) {
		g.r, err = g.s.b.Get(ctx, g.key, g.at, g.left)
		return err
	})
	if err != nil {
		return fmt.Errorf("read object %s: %w", g.key, err)
	}
	return nil
}

// maxIdleBreaks bounds how often a body may break without a byte in between.
const maxIdleBreaks = 5

// Read is io.Reader's.
func (g *reader) Read(p []byte) (int, error) {
	if g.left >= 0 { // what answers may send more than it was asked for
		if g.left == 0 {
			return 0, io.EOF
		}
		p = p[:min(int64(len(p)), g.left)]
	}
	for {
		if g.r == nil {
			if err := g.open(); err != nil {
				return 0, err
			}
		}
		n, err := g.r.Read(p)
		g.at += int64(n)
		if g.left >= 0 {
			g.left -= int64(n)
		}
		if n > 0 {
			g.idle = 0
		}
		if err == nil || errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return n, err
		}
		if err := g.rest(err); err != nil {
			return n, err
		}
		if n > 0 {
			return n, nil
		}
	}
}

// rest decides what to do after a break: nil to open again.
func (g *reader) rest(err error) error {
	g.idle++
	if !g.s.transient(g.ctx, err) || g.idle > maxIdleBreaks {
		return fmt.Errorf("read object %s at byte %d: %w", g.key, g.at, g.s.explain(g.ctx, err))
	}
	g.r.Close()
	g.r = nil
	return pause(g.ctx, g.s.patience.First)
}

// Close is io.Closer's.
func (g *reader) Close() error {
	if g.r == nil {
		return nil
	}
	return g.r.Close()
}
