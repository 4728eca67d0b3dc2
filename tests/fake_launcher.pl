#!/usr/bin/perl
# Stands for berth-launch: makes the container's first process with CLONE_PARENT, reports it on berthd's socket,
# waits for the word, opens the gate, leaves. `# words` at the head of the program say what else it does.
use strict;
use warnings;
use POSIX ();
use Socket;

my ($name) = @ARGV;
my $socket = $ENV{BERTH_SOCKET};
(my $dir = $socket) =~ s{/[^/]*$}{};
$ENV{DIR} = $dir;
my $program = "$dir/$name.sh";
open my $file, '<', $program or exit 78;
my $head = <$file>;
my ($mode, $value) = $head =~ /^# (\w+) ?(.*)/ ? ($1, $2) : ('', '');
exit $value if $mode eq 'fail';

socket my $berthd, PF_UNIX, SOCK_STREAM, 0 or die $!;
connect $berthd, sockaddr_un($socket) or die $!;
syswrite $berthd, "launch\n"; # until it has the answer, it is alone, and in its cgroup
my $plan = <$berthd> // exit 1;
if ($mode eq 'hang') { my $nothing = <$berthd>; exit 1 }
if ($mode eq 'inplace') {
    syswrite $berthd, "$name $ENV{INVOCATION_ID} $$\n";
    my $word = <$berthd>;
    exec '/bin/sh', $program;
}

pipe my $gate, my $opener or die $!;
my $clone = (POSIX::uname())[4] eq 'x86_64' ? 56 : 220;
my $flags = 0x8000 | ($mode eq 'pidns' ? 0x20000000 : 0) | 17; # CLONE_PARENT, CLONE_NEWPID, SIGCHLD
my $child = syscall $clone, $flags, 0, 0, 0, 0;
die "clone: $!" if $child < 0;
if ($child == 0) {
    close $opener;
    sysread($gate, my $byte, 1) or POSIX::_exit(1);
    exec '/bin/sh', $program;
}
close $gate;
if ($mode eq 'unarmed') {
    open my $pipe, '>', $value or die $!;
    print $pipe "$child\n";
    close $pipe;
    exit 1;
}
syswrite $berthd, "$name $ENV{INVOCATION_ID} $child\n";
my $word = <$berthd> // exit 1;
syswrite $opener, 'x';
exit 0;
