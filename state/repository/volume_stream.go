package repository

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/wal"
)

// StreamOptions say how a BackupStream works.
type StreamOptions struct {
	Codec        seal.Codec                               // zero: the first writer's repository decides
	Workers      int                                      // compressors; 0: one for each CPU, at most maxWorkers for all streams
	Streams      int                                      // that run at once, and share what one may hold; 0: this one alone
	StallTimeout time.Duration                            // a repository that finishes nothing for so long is given up; 0: 5 minutes
	Inspect      func(f *File, block uint32, page []byte) // called by several goroutines, for members that ask for it
	Parent       *Parent                                  // of an incremental: its pages are referred to where they are the same; nil: a full backup
	Summaries    bool                                     // of an incremental: members may be rebuilt, because the server told which pages changed
	Continued    bool                                     // the backup goes on with cut ones: it is incremental without a Parent
	Cut          []*Parent                                // of a continued one: what OpenCut gave of each that is in these repositories; perhaps none
	Marks        int64                                    // so many bytes of volumes are put before the first mark, see CutBackup; 0: no marks
}

// maxWorkers bounds what a machine with many CPUs holds: each worker has an encoder and two frames.
const maxWorkers = 6

// BackupStream turns the tar streams of one backup into objects, once, and puts them into every writer's repository:
// compressors work in parallel, the assembler lays frames into volumes in order, and each repository has its own
// putters. Memory is bounded by the number of frames and objects in flight.
//
// The methods of a stream and its folders are for one goroutine. Every stream ends in Commit or Abort.
type BackupStream struct {
	o      StreamOptions
	ctx    context.Context
	cancel context.CancelCauseFunc
	group  *errgroup.Group
	seed   uint64
	framer *seal.Framer // of the assembler, and of the caller once the assembler has ended

	in    *frameQueue // of frames as they came
	out   *frameQueue // of frames that are stored; the same one for a full backup
	refer *referring  // of an incremental
	fan   *fanout

	fileShards fileShardWriter
	hashShards hashShardWriter
	sums       sumWriter
	marks      marker
	folders    []Folder
	manifest   []byte // of PostgreSQL's manifest, not yet stored
	pieces     int    // of it, stored
	dataBytes  int64
	files      atomic.Int64
	stored     atomic.Int64
	finished   bool
}

// NewBackupStream starts a stream for writers of one backup, which all begin with BeginBackup under the same id.
func NewBackupStream(ctx context.Context, writers []*BackupWriter, o StreamOptions) (*BackupStream, error) {
	if len(writers) == 0 {
		return nil, errors.New("no repository to write to")
	}
	if o.Codec == (seal.Codec{}) {
		o.Codec = writers[0].Codec()
	}
	if o.Workers <= 0 {
		o.Workers = max(1, min(runtime.GOMAXPROCS(0), maxWorkers)/max(1, o.Streams))
	}
	if o.StallTimeout <= 0 {
		o.StallTimeout = 5 * time.Minute
	}
	id := writers[0].ID()
	s := &BackupStream{
		o: o, seed: writers[0].c.repo.HashSeed(),
		fileShards: fileShardWriter{backup: id}, sums: sumWriter{dir: sumsDir}, marks: marker{every: o.Marks},
	}
	if o.Parent != nil || o.Continued {
		s.refer = newReferring(o.Parent, o.Cut, writers[0])
		s.seed = s.refer.seed(s.seed)
	}
	s.hashShards = hashShardWriter{backup: id, seed: s.seed}
	s.in = newFrameQueue(o.Workers)
	s.out = s.in
	if s.refer != nil {
		s.out = newFrameQueue(o.Workers)
	}
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	inFlight := objectsInFlight
	if o.Streams > 1 {
		inFlight = 1
	}
	s.fan = newFanout(s.ctx, o.StallTimeout, inFlight, writers)
	return s, nil
}

// frameQueue carries frames from one stage to the next: work is done on them by several goroutines at once, and they are
// taken on in order. Frames that were dealt with go back to free.
type frameQueue struct{ free, work, ordered chan *frame }

func newFrameQueue(workers int) *frameQueue {
	n := 2*workers + 2
	q := &frameQueue{free: make(chan *frame, n), work: make(chan *frame, n), ordered: make(chan *frame, n)}
	for range n {
		q.free <- &frame{raw: make([]byte, 0, maxFrame), done: make(chan struct{}, 1)}
	}
	return q
}

// send gives a frame to the workers, and in order to whoever takes it on.
func (q *frameQueue) send(ctx context.Context, f *frame) error {
	for _, to := range []chan *frame{q.ordered, q.work} {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case to <- f:
		}
	}
	return nil
}

// close tells that no frame comes any more.
func (q *frameQueue) close() {
	close(q.work)
	close(q.ordered)
}

// start runs the compressors and the assembler, and what looks for differences before them.
func (s *BackupStream) start(ctx context.Context) error {
	framers := make([]*seal.Framer, s.o.Workers+1)
	for i := range framers {
		f, err := seal.NewFramer(s.o.Codec)
		if err != nil {
			return err
		}
		framers[i] = f
	}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	s.group = &errgroup.Group{}
	run := func(work func() error) {
		s.group.Go(func() error {
			err := work()
			if err != nil {
				s.cancel(err)
			}
			return err
		})
	}
	s.framer = framers[s.o.Workers]
	for _, f := range framers[:s.o.Workers] {
		if s.refer != nil {
			run(func() error { return s.in.finish(s.ctx, s.examine) })
			run(func() error { return s.out.finish(s.ctx, func(x *frame) { x.compress(f) }) })
			continue
		}
		run(func() error {
			return s.in.finish(s.ctx, func(x *frame) { s.examine(x); x.compress(f) })
		})
	}
	if s.refer != nil {
		run(func() error { return s.pack(s.ctx) })
	}
	run(func() error { return s.assemble(s.ctx) })
	return nil
}

// Folder begins the next folder: the data directory (oid 0) or a tablespace. Folders come one after another.
func (s *BackupStream) Folder(oid uint32, location string) *FolderWriter {
	return &FolderWriter{s: s, oid: oid, location: location}
}

// Files gives how many members were laid down so far.
func (s *BackupStream) Files() int64 { return s.files.Load() }

// Stored gives the bytes of finished objects so far.
func (s *BackupStream) Stored() int64 { return s.stored.Load() }

// EndData waits until every frame is in a volume. After it, Manifest and Keep may be called, and no folder any more.
func (s *BackupStream) EndData() error {
	if s.finished {
		return nil
	}
	s.finished = true
	s.in.close()
	if err := s.group.Wait(); err != nil {
		return err
	}
	if err := s.fileShards.flush(s.putShard); err != nil {
		return err
	}
	return s.hashShards.flush(s.putShard)
}

// manifestPiece is how many bytes of PostgreSQL's manifest go into one object: it grows with the number of files.
const manifestPiece = 4 << 20

// WriteManifest stores the next bytes of PostgreSQL's backup_manifest, verbatim.
func (s *BackupStream) WriteManifest(p []byte) error {
	for len(p) > 0 {
		n := min(len(p), manifestPiece-len(s.manifest))
		s.manifest = append(s.manifest, p[:n]...)
		p = p[n:]
		if len(s.manifest) < manifestPiece {
			return nil
		}
		if err := s.endPiece(); err != nil {
			return err
		}
	}
	return nil
}

// endPiece stores what has come of the manifest as one object.
func (s *BackupStream) endPiece() error {
	if len(s.manifest) == 0 {
		return nil
	}
	name := shardName(serverDir, s.pieces)
	s.pieces++
	err := s.putShard(name, s.manifest)
	s.manifest = s.manifest[:0]
	return err
}

// Kept are small things stored beside the data; nil parts are not stored.
type Kept struct {
	BackupLabel []byte // verbatim
	Captured    []byte // settings and hba rules, JSON
	Relations   []byte // names by relfilenode, JSON
}

// Keep stores what is kept beside the data.
func (s *BackupStream) Keep(k Kept) error {
	for _, part := range []struct {
		name string
		body []byte
	}{{labelName, k.BackupLabel}, {capturedName, k.Captured}, {relationName, k.Relations}} {
		if part.body == nil {
			continue
		}
		if len(part.body) > maxList {
			return fmt.Errorf("keep %s: it has %d bytes, at most %d are read again", part.name, len(part.body), maxList)
		}
		if err := s.putShard(part.name, part.body); err != nil {
			return err
		}
	}
	return nil
}

// CommitFacts are what is known of a backup once its data is complete.
type CommitFacts struct {
	Stop       wal.LSN
	Timeline   wal.Timeline
	Ended      time.Time // the server's clock
	Decided    time.Time // this machine's clock
	By         string    // this machine
	Damaged    []DamagedPages
	Suspects   []DamagedPages
	DamageText string // what the server said; with Damaged, the backup is committed as damaged
}

// StreamOutcome is what became of the backup in one writer's repository.
type StreamOutcome struct {
	Writer *BackupWriter
	Err    error // nil: committed there
}

// Commit stores what remains and decides `committed` in every repository that took everything, `aborted` in the others.
func (s *BackupStream) Commit(ctx context.Context, f CommitFacts) ([]StreamOutcome, error) {
	d, err := s.decision(f)
	if err != nil {
		return s.Abort(ctx, err.Error(), f.Decided), err
	}
	s.fan.stop()
	var out []StreamOutcome
	for _, l := range s.fan.lanes {
		o := StreamOutcome{Writer: l.w, Err: l.failed()}
		if o.Err == nil && s.refer != nil {
			o.Err = s.refer.check(ctx, l.w.c)
		}
		if o.Err == nil {
			o.Err = l.w.commit(ctx, d)
		}
		if o.Err == nil {
			l.w.dropMarks(ctx, s.marks.number)
		}
		if o.Err != nil {
			o.Err = l.w.settle(ctx, o.Err, f.Decided, l.w.c.AbortBackup)
		}
		out = append(out, o)
	}
	s.cancel(context.Canceled)
	return out, nil
}

// decision flushes everything and makes the content of COMMIT.
func (s *BackupStream) decision(f CommitFacts) (decision, error) {
	if err := s.EndData(); err != nil {
		return decision{}, err
	}
	if err := s.endPiece(); err != nil {
		return decision{}, err
	}
	slices.SortFunc(s.folders, func(a, b Folder) int { return int(int64(a.OID) - int64(b.OID)) })
	body, err := encodeRecord(folderList{Format: backupFormat, Backup: s.fileShards.backup, Folders: s.folders})
	if err != nil {
		return decision{}, err
	}
	if err := s.putObject(folderListName, body, false); err != nil {
		return decision{}, err
	}
	if err := s.sums.flush(s.putSum); err != nil {
		return decision{}, err
	}
	if err := s.writeReferences(); err != nil {
		return decision{}, err
	}
	if err := s.fan.drain(s.ctx); err != nil {
		return decision{}, err
	}
	d := decision{
		Format: backupFormat, ID: s.fileShards.backup, Decision: decidedCommitted, By: f.By, Decided: f.Decided.UTC(), Ended: f.Ended.UTC(),
		Stop: f.Stop, Timeline: f.Timeline, Files: s.files.Load(), DataBytes: s.dataBytes, StoredBytes: s.stored.Load(),
		FileShards: s.fileShards.number, HashShards: s.hashShards.number, Manifest: s.pieces, Sums: s.sums.shards,
		Damaged: briefly(f.Damaged), Suspects: briefly(f.Suspects), DamageText: f.DamageText,
	}
	if s.refer != nil {
		d.Refs, d.RefersTo, d.Chain = s.refer.sums.shards, s.refer.others(), s.refer.chain()
		d.Chain.Summaries = s.o.Summaries
	}
	return d, nil
}

// briefly cuts lists of pages so that COMMIT stays small.
func briefly(pages []DamagedPages) []DamagedPages {
	pages = slices.Clone(pages[:min(len(pages), 50)])
	for i := range pages {
		pages[i].Blocks = pages[i].Blocks[:min(len(pages[i].Blocks), 16)]
	}
	return pages
}

// Abort stops the stream and decides `aborted` everywhere, or `cut` where marks were put, see CutBackup. It may be called after a failed
// Commit; ctx bounds the decision, not the stream, which may have ended because its own context did.
func (s *BackupStream) Abort(ctx context.Context, why string, now time.Time) []StreamOutcome {
	s.cancel(context.Canceled)
	if !s.finished {
		s.finished = true
		s.in.close()
	}
	_ = s.group.Wait() // it was cancelled; why is told by the caller
	s.fan.stop()
	var out []StreamOutcome
	for _, l := range s.fan.lanes {
		err := l.failed()
		if err == nil {
			err = errors.New(why)
		}
		decide := l.w.c.AbortBackup
		if s.marks.number > 0 {
			decide = l.w.c.CutBackup
		}
		out = append(out, StreamOutcome{Writer: l.w, Err: l.w.settle(ctx, err, now, decide)})
	}
	return out
}
