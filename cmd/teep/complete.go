package main

import (
	"context"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/api"
	"github.com/go-teep/teep/tam/policy"
)

const (
	// completionTime is how long a TAM may take to answer, while somebody waits for their shell.
	completionTime = 2 * time.Second
	// completionItems bounds how many items of a list are looked at for names, completionDevices how many devices are
	// offered.
	completionItems, completionDevices = 1000, 100
)

// names finds what a word that begins with prefix may be. before are the words in front of it.
type names func(ctx context.Context, client *api.Client, before []string, prefix string) ([]string, error)

// completeFromTAM has shells complete what only a TAM knows, for those who are logged in: $TEEP_TAM and
// $TEEP_TOKEN_FILE and their like, or the flags. Without, and whatever goes wrong, there is nothing to offer.
func completeFromTAM(root *cobra.Command, patience time.Duration) {
	arguments, flags := tamNames()
	for path, arguments := range arguments {
		c, _, err := root.Find(strings.Fields(path))
		if err != nil {
			panic(err) // the table is wrong, which every test finds
		}
		c.ValidArgsFunction = func(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(args) >= len(arguments) {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return offer(cmd, patience, arguments[len(args)], args, prefix)
		}
	}
	eachCommand(root, func(c *cobra.Command) {
		for flag, find := range flags {
			if c.Flag(flag) == nil || c.Flag("tam") == nil {
				continue
			}
			err := c.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
				return offer(cmd, patience, find, args, prefix)
			})
			if err != nil {
				panic(err) // the flag is there, and nobody else completes it
			}
		}
	})
}

func eachCommand(c *cobra.Command, do func(*cobra.Command)) {
	do(c)
	for _, below := range c.Commands() {
		eachCommand(below, do)
	}
}

func offer(cmd *cobra.Command, patience time.Duration, find names, before []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
	client, err := flagsOf(cmd).client()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), patience)
	defer cancel()
	found, err := find(ctx, client, before, prefix)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	found = slices.DeleteFunc(found, func(name string) bool {
		// Shells take a list of lines, and what is behind a tab for a description.
		return !strings.HasPrefix(name, prefix) || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' })
	})
	slices.Sort(found)
	return slices.Compact(found), cobra.ShellCompDirectiveNoFileComp
}

// tamNames are what the arguments of commands name, in order, and what flags name wherever a command that talks to a
// TAM has them.
func tamNames() (arguments map[string][]names, flags map[string]names) {
	groups := named((*api.Client).Groups, func(g policy.Group) string { return g.Name })
	domains := named((*api.Client).Domains, func(d policy.Domain) string { return d.Name })
	removals := named((*api.Client).Removals, func(r policy.Removal) string { return r.Name })
	admissions := named((*api.Client).Admissions, func(a policy.Admission) string { return a.Name })
	rollouts := named((*api.Client).Rollouts, func(r api.Rollout) string { return r.Name })
	publishers := named((*api.Client).Publishers, func(p api.Publisher) string { return p.Name })
	manifests := named((*api.Client).Versions, func(v api.Version) string { return typed(v.Manifest) })
	arguments = map[string][]names{
		"devices": {deviceNames}, "devices replace": {deviceNames, deviceNames}, "devices messages": {deviceNames, messageNames},
		"component withdraw": {manifests, sequenceNames}, "component devices": {manifests, sequenceNames},
		"publisher revoke": {publishers}, "publisher revocations": {publishers}, "publisher add-key": {publishers}, "publisher signed": {publishers, keyNames}, "publisher withdraw-key": {publishers, keyNames},
		"domain remove": {domains}, "admission set": {admissions}, "removal order": {removals}, "removal lift": {removals}, "removal show": {removals},
		"token revoke":   {named((*api.Client).Tokens, func(t api.Token) string { return t.ID })},
		"webhook delete": {named((*api.Client).Webhooks, func(w api.Webhook) string { return w.ID })},
		"deposit remove": {named((*api.Client).Deposits, func(d api.Deposit) string { return d.ID })},
	}
	each := func(command string, find names, verbs ...string) {
		for _, verb := range verbs {
			arguments[command+" "+verb] = []names{find}
		}
	}
	each("devices", deviceNames, "accept", "block", "retire", "label", "policy", "report", "manifest")
	each("component", manifests, "require", "forbid", "allow", "reset", "policy")
	each("rollout", rollouts, "show", "watch", "approve", "pause", "resume", "advance", "abort", "archive", "delete")
	each("group", groups, "show", "delete")
	each("domain", domains, "show", "delete")
	each("admission", admissions, "show", "delete")
	return arguments, map[string]names{
		"manifest": manifests, "device": deviceNames, "group": groups, "publisher": publishers,
		"status":      fixed(tam.DevicePending, tam.DeviceAccepted, tam.DeviceBlocked, tam.DeviceRetired),
		"attestation": fixed("none", "affirming", "warning", "contraindicated"),
		"scope":       fixed(api.Scopes()...), "kind": fixed(tam.EventKinds()...),
	}
}

// fixed are names that need no TAM.
func fixed[T ~string](values ...T) names {
	return func(context.Context, *api.Client, []string, string) (list []string, err error) {
		for _, v := range values {
			list = append(list, string(v))
		}
		return list, nil
	}
}

// named are the names in a list of the API, as far as it is looked at.
func named[T any](page func(*api.Client, context.Context, string) (*api.Page[T], error), name func(T) string) names {
	return func(ctx context.Context, client *api.Client, _ []string, _ string) (list []string, err error) {
		all, err := api.Collect(completionItems, "", func(after string) (*api.Page[T], error) { return page(client, ctx, after) })
		for _, item := range all {
			list = append(list, name(item))
		}
		return list, err
	}
}

// deviceNames are in order: those that begin with the prefix follow it, however many devices there are.
func deviceNames(ctx context.Context, client *api.Client, _ []string, prefix string) (list []string, err error) {
	page, err := client.ListDevices(ctx, api.DeviceQuery{After: prefix, Limit: completionDevices})
	if err != nil {
		return nil, err
	}
	for _, d := range page.Items {
		list = append(list, d.ID)
	}
	return list, nil
}

// messageNames are the recorded messages of the device in front.
func messageNames(ctx context.Context, client *api.Client, before []string, _ string) (list []string, err error) {
	d, err := findDevice(ctx, client, before[0])
	if err != nil {
		return nil, err
	}
	page, err := client.Messages(ctx, d.ID, "")
	if err != nil {
		return nil, err
	}
	for _, m := range page.Items {
		list = append(list, strconv.FormatInt(m.ID, 10))
	}
	return list, nil
}

// sequenceNames are the versions of the manifest in front.
func sequenceNames(ctx context.Context, client *api.Client, before []string, prefix string) ([]string, error) {
	return named(func(c *api.Client, ctx context.Context, after string) (*api.Page[api.Version], error) {
		return c.VersionsOf(ctx, before[0], after)
	}, func(v api.Version) string { return strconv.FormatUint(v.Sequence, 10) })(ctx, client, before, prefix)
}

// keyNames are the keys and authorities of the publisher in front.
func keyNames(ctx context.Context, client *api.Client, before []string, _ string) (list []string, err error) {
	all, err := api.Collect(completionItems, "", func(after string) (*api.Page[api.Publisher], error) { return client.Publishers(ctx, after) })
	for _, p := range all {
		if p.Name == before[0] {
			list = append(append(list, p.Keys...), p.Anchors...)
		}
	}
	return list, err
}

var simpleSegments = regexp.MustCompile(`^'[A-Za-z0-9._-]+'(/'[A-Za-z0-9._-]+')*$`)

// typed is a component identifier as people type it: without quotes, where it needs none.
func typed(id string) string {
	if !simpleSegments.MatchString(id) {
		return id
	}
	return strings.ReplaceAll(id, "'", "")
}
