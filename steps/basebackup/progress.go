package basebackup

import "time"

// The phases of a backup.
const (
	PhaseCheckpoint = "waiting for the checkpoint"
	PhaseCopying    = "copying"
	PhaseFinishing  = "finishing"
)

// Progress is how far the backup is.
type Progress struct {
	Phase   string
	Done    int64         // bytes received
	Total   int64         // as the server estimated; 0: not known. Done may pass it
	Stored  int64         // bytes put into each repository
	Rate    float64       // bytes a second, over the last seconds; 0: not known
	ETA     time.Duration // 0: not known
	Elapsed time.Duration
}

// mark is how far it was at a moment.
type mark struct {
	at   time.Time
	done int64
}

const (
	reportEvery = 250 * time.Millisecond
	rateWindow  = 5 * time.Second
)

// Progress takes the server's count.
func (t *taking) Progress(done int64) {
	t.done = done
	t.report(Progress{Phase: PhaseCopying, Done: done, Total: t.total})
}

// report completes p and gives it on, not too often.
func (t *taking) report(p Progress) {
	if t.o.Report == nil {
		return
	}
	now := t.o.Now()
	if p.Phase == PhaseCopying && now.Sub(t.reported) < reportEvery {
		return
	}
	t.reported = now
	t.marks = append(t.marks, mark{now, p.Done})
	for len(t.marks) > 2 && now.Sub(t.marks[0].at) > rateWindow {
		t.marks = t.marks[1:]
	}
	first := t.marks[0]
	if d := now.Sub(first.at); d > 0 {
		p.Rate = float64(p.Done-first.done) / d.Seconds()
	}
	if left := p.Total - p.Done; p.Rate > 0 && left > 0 {
		p.ETA = time.Duration(float64(left) / p.Rate * float64(time.Second))
	}
	for _, g := range t.groups {
		if g.stream != nil {
			p.Stored = max(p.Stored, g.stream.Stored())
		}
	}
	p.Elapsed = now.Sub(t.began)
	t.o.Report(p)
}
