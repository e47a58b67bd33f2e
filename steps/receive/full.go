package receive

import (
	"context"
	"time"

	"github.com/pgkeep/pgkeep/state"
)

// awaitRoom waits until the spool may grow again. With on_spool_full = "wait" the slot keeps the WAL; with "gap" the slot
// is let go on, so that the server's disk does not fill, and what the server then removes is recorded when it is missed.
func (s *session) awaitRoom(ctx context.Context, retry *retryPause) error {
	if err := retry.wait(ctx); err != nil {
		return err
	}
	for n := 0; ; n++ {
		err := s.spool.CheckRoom()
		if err == nil {
			return nil
		}
		s.report.problem(aboutStream, err)
		if s.o.OnSpoolFull == Gap && n%10 == 0 {
			s.letSlotGo(ctx)
		}
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
	}
}

func (s *session) letSlotGo(ctx context.Context) {
	err := func() error {
		ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
		defer cancel()
		ctl, who, err := s.control(ctx)
		if err != nil {
			return err
		}
		defer ctl.Close()
		return ctl.AdvanceSlot(ctx, s.o.Slot, who.FlushLSN)
	}()
	if err != nil {
		s.o.Log.Warn("the slot was not advanced although the spool is full", "server", s.o.Server, "error", err)
	}
}

// watchRoom warns before the spool is full.
func (s *session) watchRoom() error {
	room, err := s.spool.Room()
	if err != nil {
		return err
	}
	if !room.Low {
		s.report.solved(aboutRoom)
		return nil
	}
	s.report.problem(aboutRoom, &state.Error{
		Code: state.CodeDiskFull,
		Text: "the spool " + s.spool.Dir() + " is filling: less than a fifth of its file system is free",
		Hint: "see why the repositories do not take the WAL (pgkeep status), or free space",
	})
	return s.spool.CheckRoom()
}
