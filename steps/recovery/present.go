package recovery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/pgkeep/pgkeep/state/repository"
)

// deltaGap is how much is read along between two ranges when only what differs is fetched.
const deltaGap = 32 << 10

// present is what the files of a destination hold already: one bit for each page of those files that are there and differ.
type present struct {
	mu    sync.Mutex
	files map[key][]presentRun

	last *repository.File // that was asked about last, by the one goroutine that asks
	runs []presentRun
}

// presentRun tells which pages of a stretch are as one backup has them.
type presentRun struct {
	origin string // as repository.PageOrigin
	first  int64
	same   []uint64
}

// differs notes a file that is there and not as the backup has it.
func (p *present) differs(k key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.files == nil {
		p.files = map[key][]presentRun{}
	}
	p.files[k] = nil
}

func (p *present) has(k key) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.files[k]
	return ok
}

func (p *present) add(k key, r presentRun) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.files[k] = append(p.files[k], r)
}

// page tells whether a page is there.
func (p *present) page(f *repository.File, at repository.PageOrigin) bool {
	if p.last != f {
		p.last, p.runs = f, p.files[keyOf(f)]
	}
	n := at.Offset / repository.PageSize
	for _, r := range p.runs {
		k := n - r.first
		if (r.origin == "" || r.origin == at.Backup) && k >= 0 && k < int64(len(r.same))*64 && r.same[k/64]>>(k%64)&1 == 1 {
			return true
		}
	}
	return false
}

// compare finds the pages that are there already, by their hashes.
func (r *restore) compare(ctx context.Context, p *present) error {
	if len(p.files) == 0 {
		return nil
	}
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(r.workers())
	visit := func(origin string, h repository.PageHashes) error {
		k := keyOf(&repository.File{Folder: h.Folder, Path: h.Path})
		if inner.Err() != nil || !p.has(k) || repository.CheckPath(h.Path) != nil {
			return inner.Err()
		}
		h.Hashes = slices.Clone(h.Hashes)
		group.Go(func() error {
			same, err := r.samePages(inner, h)
			if err != nil {
				return fmt.Errorf("compare %s: %w", h.Path, err)
			}
			p.add(k, presentRun{origin: origin, first: h.First, same: same})
			return nil
		})
		return nil
	}
	passed := func(backup string, err error) {
		r.note(fmt.Sprintf("page hashes of backup %s could not be read (%s): more was fetched than differs", backup, err))
	}
	err := r.Backup.EveryPageHash(ctx, visit, passed)
	if waited := group.Wait(); waited != nil {
		return waited
	}
	return err
}

// samePages reads a stretch of a file and gives a bit for each page of it that has its hash.
func (r *restore) samePages(ctx context.Context, h repository.PageHashes) ([]uint64, error) {
	const atOnce = 32
	f, err := r.roots[h.Folder].OpenFile(h.Path, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	same := make([]uint64, (h.Pages()+63)/64)
	buffer := make([]byte, atOnce*repository.PageSize)
	for n := 0; n < h.Pages(); n += atOnce {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		got, err := f.ReadAt(buffer, (h.First+int64(n))*repository.PageSize)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		for i := 0; i < atOnce && n+i < h.Pages() && i*repository.PageSize < got; i++ {
			page := buffer[i*repository.PageSize : min((i+1)*repository.PageSize, got)]
			if h.Same(n+i, page) {
				same[(n+i)/64] |= 1 << ((n + i) % 64)
			}
		}
	}
	return same, nil
}

// proveChanged compares files of which only some pages were fetched with their checksums, now that they are whole.
func (r *restore) proveChanged(ctx context.Context, p *present) error {
	if len(p.files) == 0 {
		return nil
	}
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(r.workers())
	for f, err := range r.Backup.Files(ctx) {
		if err != nil {
			return errors.Join(err, group.Wait())
		}
		if ours(&f) || f.NoCRC || !p.has(keyOf(&f)) {
			continue
		}
		group.Go(func() error {
			same, err := r.same(inner, &f)
			if err == nil && !same {
				err = r.corrupt(fmt.Sprintf("%q is not as it was recorded after what differed was fetched", f.Path))
			}
			return err
		})
	}
	return group.Wait()
}
