package steps

import (
	"fmt"
	"strings"

	"github.com/pgkeep/pgkeep/plan"
)

// binding is what an action needs to become a step: the lock it works under and how it is made.
type binding struct {
	server string            // a session there, with an advisory lock; empty: a lock of this machine
	lock   string            // the name of either
	make   func(Server) step // the session is nil without a server
}

// bind is the one list of actions and the steps that carry them out.
func (a *applier) bind(action plan.Action) (binding, error) {
	w, now := a.world, a.o.Now
	switch act := action.(type) {
	case plan.CreateRepository:
		return local("repository "+act.Repository, &createRepository{w.Repositories, act}), nil
	case plan.CreateSlot:
		return onServer(act.Server, func(s Server) step { return &createSlot{s, act} }), nil
	case plan.ReplaceSlot:
		return onServer(act.Server, func(s Server) step { return &replaceSlot{server: s, action: act} }), nil
	case plan.DropSlot:
		return onServer(act.Server, func(s Server) step { return &dropSlot{s, act} }), nil
	case plan.SwitchWAL:
		return onServer(act.Server, func(s Server) step { return &switchWAL{server: s} }), nil
	case plan.StartReceiver:
		return onServer(act.Server, func(s Server) step { return &startReceiver{server: s, receivers: w.Receivers, action: act, now: now} }), nil
	case plan.StopReceiver:
		return local("receiver "+act.Server, &stopReceiver{w.Receivers, act}), nil
	case plan.RecordGap:
		return local("archive "+act.Server, &recordGap{w.Servers, planned{w.Repositories, act.RepositoryIDs}, w.Spools, act, now}), nil
	case plan.FollowTimeline:
		return onServer(act.Server, func(s Server) step {
			return &followTimeline{s, w.Servers, planned{w.Repositories, act.RepositoryIDs}, act}
		}), nil
	case plan.TakeBackup:
		make := func(s Server) step {
			return &takeBackup{server: s, backups: w.Backups, repositories: planned{w.Repositories, act.RepositoryIDs}, receivers: w.Receivers, action: act}
		}
		return binding{server: act.Server, lock: "backup " + act.Server, make: make}, nil
	case plan.RemoveIncomplete:
		return local("archive "+act.Server+" "+act.Repository, &removeIncomplete{repositories: w.Repositories, action: act, now: now}), nil
	case plan.Prune:
		return local("archive "+act.Server+" "+act.Repository, &prune{repositories: w.Repositories, action: act, now: now}), nil
	case plan.PruneWAL:
		return local("archive "+act.Server+" "+act.Repository, &pruneWAL{repositories: w.Repositories, action: act, now: now}), nil
	case plan.Verify:
		return local("verify "+act.Server+" "+act.Repository, &verify{world: w.Verifications, action: act}), nil
	case plan.Drill:
		at := act.Route.Destination.Path
		return local("drill "+at, &drill{drills: w.Drills, recover: &recoverTo{repositories: w.Repositories, spools: w.Spools, action: plan.RecoverTo{Route: act.Route}, now: now}, action: act}), nil
	case plan.Repair:
		return local("archive "+act.Server+" "+act.Repository, &repair{world: w.Verifications, copies: w.Copies, action: act}), nil
	case plan.ExtendLock:
		return local("archive "+act.Server+" "+act.Repository, &extendLock{repositories: w.Repositories, action: act}), nil
	case plan.CopyBackup:
		return local(lane(act), &copyBackup{repositories: w.Repositories, copies: w.Copies, action: act}), nil
	case plan.CopyWAL:
		return local(lane(act), &copyWAL{repositories: w.Repositories, copies: w.Copies, action: act}), nil
	case plan.RecoverTo:
		return local("recover "+act.Route.Destination.Path, &recoverTo{recoveries: w.Recoveries, repositories: planned{w.Repositories, act.RepositoryIDs}, spools: w.Spools, action: act, now: now}), nil
	}
	return binding{}, fmt.Errorf("carry out %s: this pgkeep has no such step", plan.Verb(action))
}

func local(lock string, s step) binding {
	return binding{lock: lock, make: func(Server) step { return s }}
}

func onServer(server string, make func(Server) step) binding {
	return binding{server: server, lock: "server " + server, make: make}
}

// lane gives what an action must not do twice at once: its server, or its repository. What is copied into a repository holds
// up nothing else of its server: it may take hours.
func lane(action plan.Action) string {
	switch act := action.(type) {
	case plan.CopyBackup:
		return "copy " + act.Server + " " + act.Repository
	case plan.CopyWAL:
		return "copy " + act.Server + " " + act.Repository
	case plan.Drill:
		return "drill " + act.Route.Destination.Path // it only reads of its server's repositories
	}
	if server := serverOf(action); server != "" {
		return "server " + server
	}
	return "repository " + strings.Join(repositoriesOf(action), " ")
}

// serverOf gives the stored name that an action is about; empty for none.
func serverOf(action plan.Action) string {
	switch act := action.(type) {
	case plan.CreateSlot:
		return act.Server
	case plan.ReplaceSlot:
		return act.Server
	case plan.DropSlot:
		return act.Server
	case plan.StartReceiver:
		return act.Server
	case plan.StopReceiver:
		return act.Server
	case plan.RecordGap:
		return act.Server
	case plan.FollowTimeline:
		return act.Server
	case plan.TakeBackup:
		return act.Server
	case plan.RemoveIncomplete:
		return act.Server
	case plan.Prune:
		return act.Server
	case plan.PruneWAL:
		return act.Server
	case plan.RecoverTo:
		return act.Route.Server
	case plan.SwitchWAL:
		return act.Server
	case plan.Verify:
		return act.Server
	case plan.CopyBackup:
		return act.Server
	case plan.CopyWAL:
		return act.Server
	case plan.Repair:
		return act.Server
	case plan.ExtendLock:
		return act.Server
	case plan.Drill:
		return act.Route.Server
	}
	return ""
}

// repositoriesOf gives the labels that an action names.
func repositoriesOf(action plan.Action) []string {
	switch act := action.(type) {
	case plan.CreateRepository:
		return []string{act.Repository}
	case plan.TakeBackup:
		return act.Repositories
	case plan.RemoveIncomplete:
		return []string{act.Repository}
	case plan.Prune:
		return []string{act.Repository}
	case plan.PruneWAL:
		return []string{act.Repository}
	case plan.RecoverTo:
		return []string{act.Route.Repository}
	case plan.Verify:
		return []string{act.Repository}
	case plan.CopyBackup:
		return []string{act.Repository, act.From}
	case plan.CopyWAL:
		return []string{act.Repository, act.From}
	case plan.ExtendLock:
		return []string{act.Repository}
	case plan.Drill:
		return []string{act.Route.Repository}
	case plan.Repair:
		return append([]string{act.Repository}, act.From...)
	}
	return nil
}
