package agent

import (
	"context"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// notifier tells the service manager how the agent is.
type notifier interface {
	Notify(state string) error
	// Watchdog gives how often a sign of life is expected; 0: never.
	Watchdog() (time.Duration, error)
}

// systemd speaks sd_notify(3); without a service manager it is silent.
type systemd struct{}

func (systemd) Notify(state string) error {
	_, err := daemon.SdNotify(false, state)
	return err
}

func (systemd) Watchdog() (time.Duration, error) { return daemon.SdWatchdogEnabled(false) }

func (a *agent) notify(state string) {
	if err := a.notifier.Notify(state); err != nil {
		a.o.Log.Warn("the service manager was not told", "state", state, "error", err)
	}
}

// patience is how long one turn of the loop may take before the watchdog is no longer fed: every look and every quick
// step has a limit of its own that is far below.
const patience = 15 * time.Minute

// feedWatchdog gives signs of life for as long as the loop turns.
func (a *agent) feedWatchdog(ctx context.Context) {
	every, err := a.notifier.Watchdog()
	if err != nil {
		a.o.Log.Warn("the watchdog of the service manager cannot be used", "error", err)
		return
	}
	if every <= 0 {
		return
	}
	tick := time.NewTicker(every / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if now.Sub(time.Unix(0, a.turned.Load())) < patience {
				a.notify(daemon.SdNotifyWatchdog)
			}
		}
	}
}
