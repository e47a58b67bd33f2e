package repository

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/zeebo/xxh3"
)

// EveryPageHash gives the hashes of pages that the backup has, run by run: its own, and those of the backups in whose
// volumes pages lie that it has no hash of. origin names that other backup; empty: this one. A hash of another backup says
// what a page of this one holds only where the page lies in that backup's volumes (PageOrigin). Lists that cannot be read are
// left out and given to passed: whoever compares reads the pages instead.
func (b *BackupReader) EveryPageHash(ctx context.Context, visit func(origin string, p PageHashes) error, passed func(backup string, err error)) error {
	visiting := false // so that the visitor's own error is told from one of reading
	of := func(r *BackupReader, origin string) error {
		visiting = false
		err := r.PageHashes(ctx, func(p PageHashes) error {
			err := visit(origin, p)
			visiting = err != nil
			return err
		})
		if err != nil && (visiting || ctx.Err() != nil) {
			return err
		}
		if err != nil {
			passed(r.rec.id, err)
		}
		return nil
	}
	if err := of(b, ""); err != nil {
		return fmt.Errorf("compare pages: %w", err)
	}
	if b.rec.decided.Chain == nil || !b.rec.decided.Chain.Summaries {
		return nil // it has the hashes of all its pages
	}
	others, err := b.origins(ctx)
	if err != nil {
		return fmt.Errorf("compare pages: %w", err)
	}
	for _, id := range others {
		r, err := b.c.OpenBackup(ctx, id)
		if err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			passed(id, err)
			continue
		}
		if err := of(r, id); err != nil {
			return fmt.Errorf("compare pages: %w", err)
		}
	}
	return nil
}

// origins lists the other backups whose volumes this one reads.
func (b *BackupReader) origins(ctx context.Context) ([]string, error) {
	var out []string
	err := b.c.readSums(ctx, b.rec.id, refsDir, b.rec.decided.Refs, func(l sumLine) error {
		other, _, err := splitReference(l.name)
		if err == nil && !slices.Contains(out, other) {
			out = append(out, other)
		}
		return err
	})
	return out, err
}

// Pages gives how many pages the run has.
func (p PageHashes) Pages() int { return len(p.Hashes) / hashSize }

// Same tells whether a page, or what a file has of one at its end, hashes to the n-th hash of the run.
func (p PageHashes) Same(n int, page []byte) bool {
	h := xxh3.Hash128Seed(page, p.Seed).Bytes()
	return bytes.Equal(h[:], p.Hashes[n*hashSize:(n+1)*hashSize])
}

// PageSize is the number of bytes that one hash stands for.
const PageSize = pageSize
