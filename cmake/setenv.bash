# Source this file to build and run programs of the CANN interface against epx. May be sourced repeatedly, from any
# folder, also under `set -u`.
epx_setenv_here_="$(cd "$(dirname "${BASH_SOURCE[0]:-$0}")/.." && pwd)"
export ASCEND_HOME_PATH="$epx_setenv_here_"
export ASCEND_TOOLKIT_HOME="$epx_setenv_here_"
export ASCEND_OPP_PATH="$epx_setenv_here_/opp"
epx_setenv_prepend_()
{
    # $1: variable, $2: folder
    local old="${!1:-}"
    case ":$old:" in
    *":$2:"*) ;;
    *) export "$1=$2${old:+:$old}" ;;
    esac
}
epx_setenv_prepend_ LD_LIBRARY_PATH "$epx_setenv_here_/lib64"
epx_setenv_prepend_ PATH "$epx_setenv_here_/bin"
epx_setenv_prepend_ PATH "$(dirname "$epx_setenv_here_")/bin"
unset -f epx_setenv_prepend_
unset epx_setenv_here_
