"""Events and hooks: how plugins listen to a trainer."""

from __future__ import annotations

import inspect
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, NewType, Optional, Union

from flair.distributed_utils import is_main_process

if TYPE_CHECKING:
    from flair.data.corpus import Corpus
    from flair.nn.model import Model
    from flair.trainers.trainer import ModelTrainer

PluginArgument = Union["BasePlugin", type["BasePlugin"]]
HookHandleId = NewType("HookHandleId", int)
EventIdenifier = str

_EVENTS = "_plugin_hook_events"
"""The attribute by which a method is marked as a hook; it holds the names of its events."""


class TrainingInterrupt(Exception):
    """Raised by a hook to end the training; the trainer then saves and evaluates as after the last epoch."""


class Pluggable:
    """Something that dispatches events to hooks.

    A subclass lists its events in :attr:`valid_events`. Hooks of one event run in the order in which they were
    registered. An event dispatched while another one is being processed waits until that one is done.
    """

    valid_events: Optional[set[EventIdenifier]] = None

    def __init__(self, *, plugins: Sequence[PluginArgument] = []) -> None:
        self._hook_handles: dict[EventIdenifier, dict[HookHandleId, HookHandle]] = defaultdict(dict)
        self._hook_handle_id_counter = count()
        self._plugins: list[BasePlugin] = []
        self._processing_events = False
        self._event_queue: deque[tuple[EventIdenifier, tuple, dict[str, Any]]] = deque()
        for plugin in plugins:
            (plugin() if isinstance(plugin, type) else plugin).attach_to(self)

    @property
    def plugins(self) -> list[BasePlugin]:
        """The attached plugins, in order of attachment."""
        return self._plugins

    def append_plugin(self, plugin: BasePlugin) -> None:
        """Note a plugin as attached; called by :meth:`BasePlugin.attach_to`."""
        self._plugins.append(plugin)

    def validate_event(self, *events: EventIdenifier) -> None:
        """Raise a RuntimeError for an event that this class does not know."""
        if self.valid_events is None:
            return
        for event in events:
            if event not in self.valid_events:
                raise RuntimeError(f"Event '{event}' not recognized. Available: {', '.join(sorted(self.valid_events))}")

    def register_hook(self, func: Callable, *events: EventIdenifier) -> HookHandle:
        """Call ``func`` on each of the events from now on.

        Returns:
            A handle that can remove the hook again.
        """
        self.validate_event(*events)
        handle = HookHandle(HookHandleId(next(self._hook_handle_id_counter)), events=events, func=func, pluggable=self)
        for event in events:
            self._hook_handles[event][handle.id] = handle
        return handle

    def dispatch(self, event: EventIdenifier, *args: Any, **kwargs: Any) -> None:
        """Call all hooks of an event with the given arguments; queued if an event is being processed already."""
        self.validate_event(event)
        self._event_queue.append((event, args, kwargs))
        if self._processing_events:
            return
        self._processing_events = True
        try:
            while self._event_queue:
                name, positional, named = self._event_queue.popleft()
                for handle in tuple(self._hook_handles[name].values()):
                    handle(*positional, **named)
        finally:
            # After an exception in a hook, what that event had queued must not surface in an unrelated one.
            self._event_queue.clear()
            self._processing_events = False

    def remove_hook(self, handle: HookHandle) -> None:
        """Stop calling a hook.

        Raises:
            KeyError: the hook was removed before.
        """
        for event in handle.events:
            del self._hook_handles[event][handle.id]


class HookHandle:
    """A registered hook."""

    def __init__(
        self, _id: HookHandleId, *, events: Sequence[EventIdenifier], func: Callable, pluggable: Pluggable
    ) -> None:
        self._id = _id
        self._events = tuple(events)
        self._func = func
        self._pluggable = pluggable

    @property
    def id(self) -> HookHandleId:
        """Unique among the hooks of one pluggable."""
        return self._id

    @property
    def func_name(self) -> str:
        """The name of the function, qualified by its class for methods of plugins."""
        owner = getattr(self._func, "__self__", None)
        name = getattr(self._func, "__name__", repr(self._func))
        return name if owner is None else f"{type(owner).__name__}.{name}"

    @property
    def events(self) -> Iterator[EventIdenifier]:
        """The events on which the hook is called."""
        return iter(self._events)

    def remove(self) -> None:
        """Stop calling this hook."""
        self._pluggable.remove_hook(self)

    def __call__(self, *args: Any, **kw: Any) -> Any:
        """Call the hook.

        Raises:
            TypeError: the hook does not take the event's arguments; the message says which one.
        """
        try:
            return self._func(*args, **kw)
        except TypeError as error:
            self._explain(error, args, kw)
            raise

    def _explain(self, error: TypeError, args: tuple, kw: dict[str, Any]) -> None:
        """Raise a clearer error when the hook's signature is to blame (checked only after a failure)."""
        try:
            parameters = inspect.signature(self._func)
            parameters.bind(*args, **kw)
        except ValueError:  # a builtin without signature
            return
        except TypeError as mismatch:
            for name in kw:
                if name not in parameters.parameters:
                    raise TypeError(
                        f"Hook callback {self.func_name}() does not accept keyword argument '{name}'. "
                        "Add it or **kwargs to its signature."
                    ) from error
            raise TypeError(f"Hook callback {self.func_name}(): {mismatch}") from error


class BasePlugin:
    """Base of plugins: methods marked with :meth:`hook` become hooks of what the plugin is attached to."""

    def __init__(self) -> None:
        self._hook_handles: list[HookHandle] = []
        self._pluggable: Optional[Pluggable] = None

    def attach_to(self, pluggable: Pluggable) -> None:
        """Register all hooks of this plugin.

        In distributed training a plugin whose :attr:`attach_to_all_processes` is False stays unattached on all
        processes but the main one.
        """
        assert self._pluggable is None, (
            f"{type(self).__name__} is attached already. Call detach() first, or make a new plugin."
        )
        if not self.attach_to_all_processes and not is_main_process():
            return
        hooks = list(self._marked_methods())
        for _, events in hooks:
            pluggable.validate_event(*events)
        self._pluggable = pluggable
        pluggable.append_plugin(self)
        self._hook_handles.extend(pluggable.register_hook(method, *events) for method, events in hooks)

    def detach(self) -> None:
        """Remove all hooks of this plugin."""
        for handle in self._hook_handles:
            handle.remove()
        self._hook_handles = []
        if self._pluggable is not None and self in self._pluggable.plugins:
            self._pluggable.plugins.remove(self)
        self._pluggable = None

    def _marked_methods(self) -> Iterator[tuple[Callable, tuple[EventIdenifier, ...]]]:
        """The hooks of this plugin in order of definition, base classes first; an override decides for itself."""
        names = dict.fromkeys(name for base in reversed(type(self).__mro__) for name in vars(base))
        for name in names:
            events = getattr(inspect.getattr_static(type(self), name), _EVENTS, None)
            if events is not None:
                yield getattr(self, name), events

    @classmethod
    def mark_func_as_hook(cls, func: Callable, *events: EventIdenifier) -> Callable:
        """Mark a method as a hook for the named events, or for the event it is named after."""
        setattr(func, _EVENTS, events or (func.__name__,))
        return func

    @classmethod
    def hook(cls, first_arg: Optional[Union[Callable, EventIdenifier]] = None, *other_args: EventIdenifier) -> Callable:
        """Decorator for hooks: ``@TrainerPlugin.hook`` or ``@TrainerPlugin.hook("after_setup", ...)``."""
        if callable(first_arg):
            return cls.mark_func_as_hook(first_arg)
        events = () if first_arg is None else (first_arg, *other_args)
        return lambda func: cls.mark_func_as_hook(func, *events)

    @property
    def pluggable(self) -> Optional[Pluggable]:
        """What the plugin is attached to."""
        return self._pluggable

    @property
    def attach_to_all_processes(self) -> bool:
        """Whether the plugin runs on every process of a distributed training, or on the main one only."""
        return True

    def __str__(self) -> str:
        return type(self).__name__

    def get_state(self) -> dict[str, Any]:
        """The plugin as plain data, for the model card: its class and its settings."""
        return {"__cls__": f"{type(self).__module__}.{type(self).__name__}"}

    def state_dict(self) -> dict[str, Any]:
        """What this plugin has to remember when a training is resumed: plain containers, strings, numbers, tensors.

        By default the state of its ``scheduler``, if it has one. Plugins that count or remember anything else override
        this method and :meth:`load_state_dict`.
        """
        scheduler: Any = getattr(self, "scheduler", None)
        return {"scheduler": scheduler.state_dict()} if hasattr(scheduler, "state_dict") else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned; called after ``after_setup``."""
        scheduler = getattr(self, "scheduler", None)
        if scheduler is not None and "scheduler" in state:
            scheduler.load_state_dict(state["scheduler"])


class TrainerPlugin(BasePlugin):
    """Base of plugins for :class:`flair.trainers.trainer.ModelTrainer`."""

    @property
    def trainer(self) -> ModelTrainer:
        """The trainer this plugin is attached to."""
        return self.pluggable  # type: ignore[return-value]

    @property
    def model(self) -> Model:
        """The model in training."""
        return self.trainer.model

    @property
    def corpus(self) -> Corpus:
        """The corpus of the training."""
        return self.trainer.corpus
