package receive

import (
	"context"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// endIdleSegment asks the server to finish a segment that has been open for long, when the role may. The question has a
// goroutine of its own: a server that is slow to take a session must not delay a reply on the stream.
func (f *flow) endIdleSegment(ctx context.Context, now time.Time) {
	if f.switched != nil {
		select {
		case err := <-f.switched:
			f.noteSwitch(err)
		default:
			return
		}
	}
	every := f.s.o.SwitchEvery
	if every < 0 || f.s.start.noSwitch || f.segmentNow == (wal.Segment{}) || now.Sub(f.segmentAt) < every ||
		f.s.cluster.SegmentSize.Offset(f.w.Written()) == 0 {
		return
	}
	f.segmentAt = now // not again before the next period, whatever comes of it
	answer := make(chan error, 1)
	f.switched = answer
	go func() { answer <- f.s.switchSegment(ctx) }()
}

// awaitSwitch returns when no switch is under way any more; the context of the stream has ended.
func (f *flow) awaitSwitch() {
	if f.switched != nil {
		f.noteSwitch(<-f.switched)
	}
}

func (f *flow) noteSwitch(err error) {
	f.switched = nil
	if err == nil {
		return
	}
	f.s.start.noSwitch = f.s.start.noSwitch || state.CodeOf(err) == state.CodePrivilege
	f.s.o.Log.Info("the idle segment was not ended", "server", f.s.o.Server, "error", err)
}

func (s *session) switchSegment(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout/2)
	defer cancel()
	ctl, _, err := s.control(ctx)
	if err != nil {
		return err
	}
	defer ctl.Close()
	_, err = ctl.SwitchWAL(ctx)
	return err
}
