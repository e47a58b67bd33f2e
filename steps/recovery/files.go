package recovery

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository"
)

const controlPath = "global/pg_control"

// left tells whether a member of the data directory is not restored: what makes a server a standby or a half-finished
// recovery, what belongs to a running server, and tablespace_map, from which PostgreSQL would make links to where the
// tablespaces were on the server.
func left(f *repository.File) bool {
	if f.Folder != 0 {
		return false
	}
	switch f.Path {
	case "tablespace_map", "standby.signal", "recovery.signal", "recovery.done", "postmaster.pid", "postmaster.opts",
		"backup_label", "backup_manifest":
		return true
	}
	return false
}

// ours tells whether a member is written by this package and not copied: links of tablespaces, and pg_control at the end.
func ours(f *repository.File) bool {
	return left(f) || f.Folder == 0 && (f.Path == controlPath || f.Type == repository.SymbolicLink)
}

// files makes directories and empty files, then writes the content in parallel.
func (r *restore) files(ctx context.Context) error {
	r.total = r.Backup.Info().DataBytes - r.hollowBytes()
	if err := r.clear(ctx); err != nil {
		return err
	}
	have, there := &kept{}, &present{}
	if err := r.prepare(ctx, have, there); err != nil {
		return fmt.Errorf("restore backup %s: %w", r.Route.Backup, err)
	}
	if err := r.linkTablespaces(); err != nil {
		return err
	}
	if err := r.compare(ctx, there); err != nil {
		return err
	}
	w := &fileWriter{r: r, table: crc32.MakeTable(crc32.Castagnoli), open: map[key]*progress{}, there: there}
	if err := r.Backup.Pieces(ctx, r.pieces(have, there), w.write); err != nil {
		return fmt.Errorf("restore backup %s: %w", r.Route.Backup, err)
	}
	if n := len(w.open); n > 0 {
		return r.corrupt(fmt.Sprintf("%d files did not arrive whole", n))
	}
	return r.proveChanged(ctx, there)
}

// clear makes a directory that holds something ready to be written into.
func (r *restore) clear(ctx context.Context) error {
	if !r.resuming && !r.over {
		return nil
	}
	if err := r.checkStopped(); err != nil {
		return err
	}
	if err := r.removeControl(); err != nil {
		return err
	}
	if !r.over {
		return nil
	}
	r.evidence.Over = true
	return r.removeOthers(ctx)
}

// pieces says what to fetch: files that are not there, and of those that are there and differ the pages that do.
func (r *restore) pieces(have *kept, there *present) repository.PieceOptions {
	o := repository.PieceOptions{
		Workers: r.workers(),
		Want:    func(f *repository.File) bool { return !ours(f) && !r.isHollow(f) && !have.has(keyOf(f)) },
		Fetched: func(n int64) { r.fetched.Add(n) },
	}
	if len(r.leftOut) > 0 {
		o.Gap = deltaGap
	}
	if !r.resuming && !r.over {
		return o
	}
	o.Gap = deltaGap
	o.Have = func(f *repository.File, at repository.PageOrigin) bool {
		same := there.page(f, at)
		if same {
			r.progress(int64(at.Length))
		}
		return same
	}
	return o
}

func (r *restore) workers() int {
	if r.Workers > 0 {
		return r.Workers
	}
	return runtime.GOMAXPROCS(0)
}

func (r *restore) corrupt(text string) error {
	return &state.Error{Code: state.CodeCorrupt, Text: fmt.Sprintf("backup %s: %s", r.Route.Backup, text), Hint: "restore from another repository, or choose another backup"}
}

// prepare makes what has no content, in the order of the server's stream, so that directories come before what is in
// them. When a restore is resumed, files that are there already are compared by their checksum.
func (r *restore) prepare(ctx context.Context, have *kept, there *present) error {
	r.inBackup = map[string]bool{}
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(r.workers())
	for f, err := range r.Backup.Files(ctx) {
		if err != nil {
			return errors.Join(err, group.Wait())
		}
		if ours(&f) {
			continue
		}
		if f.Folder == 0 && isConf(f.Path) {
			r.inBackup[f.Path] = true
		}
		was, err := r.prepareOne(&f)
		if err != nil {
			return errors.Join(err, group.Wait())
		}
		if was == 0 || f.Type != repository.RegularFile || f.Size == 0 {
			continue
		}
		group.Go(func() error {
			same, err := was == f.Size, error(nil)
			if same {
				same, err = r.same(inner, &f)
			}
			if same {
				have.add(keyOf(&f))
				r.progress(f.Size)
			} else {
				there.differs(keyOf(&f))
			}
			return err
		})
	}
	return group.Wait()
}

func isConf(path string) bool {
	return path == mainConf || path == autoConf || path == hbaConf || path == identConf
}

// prepareOne makes one member, and gives how long a file was that was there before.
func (r *restore) prepareOne(f *repository.File) (was int64, err error) {
	root, ok := r.roots[f.Folder]
	if !ok {
		return 0, r.corrupt(fmt.Sprintf("%q is in folder %d, which it does not have", f.Path, f.Folder))
	}
	if err := repository.CheckPath(f.Path); err != nil {
		return 0, r.corrupt(err.Error())
	}
	switch f.Type {
	case repository.Directory:
		return 0, r.makeDirectory(root, f)
	case repository.RegularFile:
		return r.makeFile(root, f)
	case repository.SymbolicLink:
	}
	return 0, r.corrupt(fmt.Sprintf("%q is a symbolic link in a tablespace", f.Path))
}

func (r *restore) makeDirectory(root *os.Root, f *repository.File) error {
	err := root.Mkdir(f.Path, 0o700)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return writeError(filepath.Join(root.Name(), f.Path), err)
	}
	info, err := root.Lstat(f.Path)
	if err != nil {
		return fmt.Errorf("make %s: %w", f.Path, err)
	}
	if !info.IsDir() {
		return refuse("remove it", "%s is no directory", filepath.Join(root.Name(), f.Path))
	}
	if err := root.Chmod(f.Path, fs.FileMode(f.Mode)&0o750|0o700); err != nil {
		return fmt.Errorf("make %s: %w", f.Path, err)
	}
	return r.own(root, f.Path)
}

func (r *restore) makeFile(root *os.Root, f *repository.File) (was int64, err error) {
	mode := fs.FileMode(f.Mode)&0o640 | 0o600
	file, err := root.OpenFile(f.Path, os.O_WRONLY|os.O_CREATE|syscall.O_NOFOLLOW, mode)
	if err != nil {
		return 0, writeError(filepath.Join(root.Name(), f.Path), err)
	}
	info, err := file.Stat()
	if err == nil {
		was = info.Size()
	}
	if err == nil && was > 0 && r.isHollow(f) { // nothing of what was there stays
		err, was = file.Truncate(0), 0
	}
	if err == nil && was != f.Size {
		err = file.Truncate(f.Size)
	}
	if err == nil {
		err = file.Chmod(mode)
	}
	if err == nil && os.Geteuid() == 0 {
		err = file.Chown(r.owner.UID, r.owner.GID)
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return 0, writeError(filepath.Join(root.Name(), f.Path), err)
	}
	return was, nil
}

// linkTablespaces makes pg_tblspc/<number> point to where each tablespace was put. A link of an earlier try is replaced.
func (r *restore) linkTablespaces() error {
	root := r.roots[0]
	if err := root.Mkdir("pg_tblspc", 0o700); err == nil {
		if err := r.own(root, "pg_tblspc"); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make pg_tblspc: %w", err)
	}
	for _, oid := range r.folderIDs() {
		if oid == 0 {
			continue
		}
		name := path.Join("pg_tblspc", strconv.FormatUint(uint64(oid), 10))
		if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("replace %s: %w", name, err)
		}
		if err := root.Symlink(r.places[oid], name); err != nil {
			return fmt.Errorf("link tablespace %d: %w", oid, err)
		}
		if err := r.own(root, name); err != nil {
			return err
		}
	}
	return nil
}

// same tells whether a file is on disk as the backup has it. One whose checksum is not known is fetched again.
func (r *restore) same(ctx context.Context, f *repository.File) (bool, error) {
	if err := ctx.Err(); err != nil || f.NoCRC {
		return false, err
	}
	sum, size, err := checksum(r.roots[f.Folder], f.Path)
	if err != nil {
		return false, fmt.Errorf("compare %s: %w", f.Path, err)
	}
	return size == f.Size && sum == f.CRC32C, nil
}

// checksum gives the CRC-32C and length of a file.
func checksum(root *os.Root, name string) (uint32, int64, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	h := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	n, err := io.CopyBuffer(struct{ io.Writer }{h}, f, make([]byte, 256<<10))
	return h.Sum32(), n, err
}

// key names a file in little memory: a backup may have millions.
type key [16]byte

func keyOf(f *repository.File) key {
	b := append(binary.LittleEndian.AppendUint32(nil, f.Folder), f.Path...)
	sum := sha256.Sum256(b)
	return key(sum[:16])
}

// kept is the set of files that need not be fetched.
type kept struct {
	mu  sync.Mutex
	set map[key]struct{}
}

func (k *kept) add(x key) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.set == nil {
		k.set = map[key]struct{}{}
	}
	k.set[x] = struct{}{}
}

func (k *kept) has(x key) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, ok := k.set[x]
	return ok
}

// fileWriter writes pieces, called by many goroutines, and checks each file when its last piece is there.
type fileWriter struct {
	r     *restore
	table *crc32.Table
	mu    sync.Mutex
	open  map[key]*progress // files of which some pieces have come
	there *present          // files of which some pages were there
}

type progress struct {
	bytes int64
	sum   uint32
}

func (w *fileWriter) write(p repository.Piece) error {
	f := p.File
	end := p.Offset + int64(len(p.Data))
	if p.Offset < 0 || end > f.Size {
		return w.r.corrupt(fmt.Sprintf("%q has a piece beyond its %d bytes", f.Path, f.Size))
	}
	root := w.r.roots[f.Folder]
	file, err := root.OpenFile(f.Path, os.O_WRONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return writeError(filepath.Join(root.Name(), f.Path), err)
	}
	_, err = file.WriteAt(p.Data, p.Offset)
	if err = errors.Join(err, file.Close()); err != nil {
		return writeError(filepath.Join(root.Name(), f.Path), err)
	}
	w.r.written.Add(int64(len(p.Data)))
	w.r.progress(int64(len(p.Data)))
	return w.count(f, int64(len(p.Data)), share(w.table, p.Data, f.Size-end))
}

// count adds a piece and, when it was the last one, compares the file's checksum where there is one. Frames were compared
// with theirs before.
func (w *fileWriter) count(f *repository.File, n int64, sum uint32) error {
	k := keyOf(f)
	if w.there.has(k) {
		return nil // of which the rest is there, and the whole is compared when all is
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.open[k]
	if p == nil {
		p = &progress{}
		w.open[k] = p
	}
	p.bytes, p.sum = p.bytes+n, p.sum^sum
	if p.bytes < f.Size {
		return nil
	}
	delete(w.open, k)
	if p.bytes > f.Size {
		return w.r.corrupt(fmt.Sprintf("%q has pieces of %d bytes, more than its %d", f.Path, p.bytes, f.Size))
	}
	if got := whole(p.sum, f.Size); !f.NoCRC && got != f.CRC32C {
		return w.r.corrupt(fmt.Sprintf("%q has checksum %08X, recorded was %08X", f.Path, got, f.CRC32C))
	}
	return nil
}

func (r *restore) progress(n int64) {
	done := r.done.Add(n)
	if r.Report != nil {
		r.Report(min(done, r.total), r.total)
	}
}

// writeError gives a full disk and a refusal their codes.
func writeError(name string, err error) error {
	code, hint := state.CodeIO, "look at its disk and at this machine's log (dmesg), then run the same command again: what is there is kept"
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		code, hint = state.CodeDiskFull, "free some space and run the same command again: what is there is kept"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		code, hint = state.CodePermission, "let the user who runs pgkeep write there, then run the same command again: what is there is kept"
	case strings.Contains(err.Error(), "escapes"):
		code, hint = state.CodeDestination, "remove the link"
	}
	return &state.Error{Code: code, Text: "write " + name, Hint: hint, Err: err}
}
