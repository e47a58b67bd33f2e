package basebackup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/wal"
)

// A server of PostgreSQL 17 and later with summarize_wal = on can tell which pages changed since the parent began, from its
// WAL summaries. It is given a manifest of the parent, and sends of each relation's file only those pages. That is taken on
// trust where a plain stream is compared by content, so it is asked of a parent here what the comparison would have shown:
// nothing in it may be in doubt.
//
// Not every change is in WAL summaries. A heap record that clears bits of the visibility map does not name the map's page
// (so the maps would stay as the parent has them, with pages marked as visible to all that are not), and the free space map
// is hardly logged. Pages of zeros where a relation was truncated and grew again are not in them either (truncated.go), and they
// are not believed across a change of timeline. The server sends a file whole when the manifest does not have it, so only main forks stand there:
// the maps are a few thousandths of their relations, and forks of unlogged relations are a page.

// findSummaries decides whether the server tells which pages changed. Where it does not, t.compared says why the whole
// cluster is read and compared. A parent of which not all hashes are known allows no comparison: then the backup is full.
func (t *taking) findSummaries(ctx context.Context, conn *postgres.Replication) (whyFull string, err error) {
	if t.version/10000 >= postgres.SummariesSince {
		if t.checksums, err = conn.Checksums(ctx); err != nil {
			return "", err
		}
	}
	if t.parent == nil {
		return "", nil
	}
	why, err := conn.NoSummaries(ctx)
	if err != nil {
		return "", err
	}
	if why == "" {
		why = doubts(t.parent.any(), t.checksums)
	}
	if why == "" {
		why, err = t.cannotAsk(ctx, conn)
	}
	if err != nil {
		return "", err
	}
	if why == "" {
		t.summaries = true
		return "", nil
	}
	return t.compare(why), nil
}

// doubts tells why a backup must not be laid over a parent of which the server tells what changed; empty: it may. A page of
// which it is not known whether it is damaged would stay so for ever. And when page checksums are switched on, every page is
// written anew while the server is down, and no WAL tells of it.
func doubts(parent repository.ParentFacts, checksums string) (why string) {
	switch {
	case parent.Suspects:
		return fmt.Sprintf("its parent %s has pages that may be damaged", parent.ID)
	case checksums != "off" && parent.Checksums != "on":
		return fmt.Sprintf("it is not known that the pages of its parent %s have checksums", parent.ID)
	}
	return ""
}

// compare gives up being told which pages changed. A backup that cannot be compared with its parent is full, and whyFull says why.
func (t *taking) compare(why string) (whyFull string) {
	t.summaries, t.compared = false, why
	parent := t.parent.any()
	if !parent.Sparse {
		return ""
	}
	t.parent, t.compared = nil, ""
	return fmt.Sprintf("its parent %s has not the hashes of all its pages, and %s", parent.ID, why)
}

// parentManifest streams the manifest of the parent that the server is given. The caller closes it.
func (t *taking) parentManifest(ctx context.Context) *composing {
	parent := t.parent.any()
	open := t.parent.open[parent.Copy]
	m := postgres.Manifest{
		SystemID:  t.dst[0].Key().SystemID,
		WALRanges: []wal.Range{{Timeline: parent.Timeline, From: parent.Start, To: parent.Stop}},
	}
	r, w := io.Pipe()
	c := &composing{PipeReader: r, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		_ = w.CloseWithError(postgres.ComposeManifest(w, m, mainForks(open.Files(ctx)))) // it never fails
	}()
	return c
}

// composing is a manifest that is read while it is written.
type composing struct {
	*io.PipeReader
	done chan struct{}
}

// errComposed ends the writing of a manifest that nobody reads any more.
var errComposed = errors.New("the manifest is not read any more")

// Close ends the writing, and waits for it.
func (c *composing) Close() error {
	err := c.CloseWithError(errComposed)
	<-c.done
	return err
}

// mainForks gives the files of a backup of which a server may send parts: main forks of relations, in whole pages. One that
// is empty comes whole.
func mainForks(files iter.Seq2[repository.File, error]) iter.Seq2[postgres.ManifestFile, error] {
	return func(yield func(postgres.ManifestFile, error) bool) {
		for f, err := range files {
			if err != nil {
				yield(postgres.ManifestFile{}, err)
				return
			}
			path := inManifest(f.Folder, f.Path)
			if f.Type != repository.RegularFile || f.Size == 0 || f.Size%postgres.PageBytes != 0 || !isMainFork(path) {
				continue
			}
			if !yield(postgres.ManifestFile{Path: path, Size: f.Size, ModTime: f.ModTime}, nil) {
				return
			}
		}
	}
}

// inManifest gives the path of a member as PostgreSQL's manifest has it.
func inManifest(folder uint32, path string) string {
	if folder == 0 {
		return path
	}
	return fmt.Sprintf("pg_tblspc/%d/%s", folder, path)
}

// fitsParent tells whether a backup_label builds on what the backup does.
func (t *taking) fitsParent(l postgres.BackupLabel) bool {
	if !t.summaries {
		return l.IncrementalFrom == 0
	}
	p := t.parent.any()
	return l.IncrementalFrom == p.Start && l.IncrementalTimeline == p.Timeline
}
